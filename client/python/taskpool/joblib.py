"""A backend for joblib: `import taskpool.joblib`, then `joblib.parallel_backend("taskpool")`."""

from __future__ import annotations

import os
from typing import Any, Callable

from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

from .pool import Pool

__all__ = ["TaskpoolBackend"]


class TaskpoolBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches as tasks of a pool."""

    supports_timeout = True
    supports_sharedmem = False
    uses_threads = False

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._pool: Pool | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """The number of workers; negative ones count from the number of CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        cpus = os.cpu_count() or 1
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, cpus + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Opens the pool."""
        workers = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        self._pool = Pool(workers)
        return workers

    def apply_async(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Schedules a batch."""
        assert self._pool is not None
        return self._pool.apply_async(func, callback=callback)

    submit = apply_async

    def retrieve_result_callback(self, result: Any) -> Any:
        """What the batch returned, for versions of joblib that ask in the callback."""
        return result

    def terminate(self) -> None:
        """Ends the pool."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends what runs; begins anew if more is to come."""
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


register_parallel_backend("taskpool", TaskpoolBackend)
