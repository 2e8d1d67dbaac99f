"""What can go wrong, as exceptions. Those that multiprocessing has are its own, so that existing `except` clauses work."""

from __future__ import annotations

import base64
import pickle
from multiprocessing.context import AuthenticationError, BufferTooShort, ProcessError, TimeoutError
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

__all__ = ["AuthenticationError", "BufferTooShort", "Cancelled", "DaemonError", "DaemonGone", "MaybeEncodingError",
           "NoDaemon", "OutcomeUnknown", "OutOfMemory", "PoolClosed", "ProcessError", "RemoteError", "RemoteTraceback",
           "StartFailed", "TaskTimeout", "TimeoutError", "UntrustedPickle", "WorkerLost"]


class DaemonError(ProcessError):
    """A request that failed. `code` is one of the names in section 4 of PROTOCOL.md; `detail` says what it was about."""

    code = "internal"

    def __init__(self, detail: str = "", code: str | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        #: What else the daemon said: `type`, `traceback`, `task`, `signal`, `exit_code`, `position`.
        self.fields = fields

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.detail, self.code, self.fields, self.__dict__.get("results"))

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


def _rebuild(kind: type[DaemonError], detail: str, code: str, fields: dict[str, Any], results: Any) -> DaemonError:
    error = kind(detail, code, **fields)
    if results is not None:
        error.results = results  # type: ignore[attr-defined]
    return error


class WorkerLost(DaemonError):
    """The worker that ran it died: killed, crashed, or left by exit(). The pool goes on."""

    code = "worker_lost"

    @property
    def exitcode(self) -> int:
        """As Process.exitcode: negative for a signal."""
        if self.fields.get("signal"):
            return -int(self.fields["signal"])
        return int(self.fields.get("exit_code", 1))


class OutOfMemory(WorkerLost):
    """Its worker was killed for memory."""

    code = "out_of_memory"


class Cancelled(DaemonError):
    """Somebody cancelled it, its pool was terminated, or a failure elsewhere stopped its job."""

    code = "cancelled"


class TaskTimeout(DaemonError, TimeoutError):
    """The time limit of the call passed."""

    code = "timed_out"


class PoolClosed(DaemonError, ValueError):
    """The pool takes no more work."""

    code = "pool_closed"


class StartFailed(DaemonError, RuntimeError):
    """Workers cannot start: the initializer raised, or the main module cannot be imported."""

    code = "start_failed"


class NoDaemon(DaemonError, ConnectionError):
    """Nobody listens, and no daemon could be started."""

    code = "no_daemon"


class DaemonGone(DaemonError, ConnectionError):
    """The connection broke, and nothing of this ran."""

    code = "daemon_gone"


class OutcomeUnknown(DaemonError, ConnectionError):
    """The connection broke, and this may have run."""

    code = "outcome_unknown"


class UntrustedPickle(DaemonError, pickle.UnpicklingError):
    """A pickle of another user: reading it would run that user's code."""

    code = "untrusted_pickle"


class RemoteError(DaemonError):
    """A task failed in a way that cannot be shown as its own exception: native code, or one that cannot be pickled."""

    code = "task_failed"


_CLASSES: dict[str, type[DaemonError]] = {
    kind.code: kind for kind in (WorkerLost, OutOfMemory, Cancelled, TaskTimeout, PoolClosed, StartFailed, NoDaemon,
                                 DaemonGone, OutcomeUnknown, RemoteError)}


def from_head(head: dict[str, Any], trusted: bool) -> BaseException:
    """The exception that the head of an `error` or `failed` frame tells of: the task's own where it came along and its
    sender is trusted."""
    fields = dict(head)
    code = str(fields.pop("code", "internal"))
    detail = str(fields.pop("detail", ""))
    pickled = fields.pop("exception", "")
    if pickled and trusted:
        try:
            exception = pickle.loads(base64.b64decode(pickled))
        except Exception as error:
            detail += f" (its exception cannot be unpickled: {error!r})"
        else:
            if isinstance(exception, BaseException):
                return with_traceback(exception, str(fields.get("traceback", "")))
    if code == "task_failed" and fields.get("type"):
        detail = f"{fields['type']}: {detail}"
    if code == "not_encodable" and "type" in fields:
        not_encodable = MaybeEncodingError("", "")
        not_encodable.exc, not_encodable.value = fields["type"], detail
        return not_encodable
    kind = _CLASSES.get(code, DaemonError)
    return with_traceback(kind(detail, code, **fields), str(fields.get("traceback", "")))


def with_traceback(exception: BaseException, text: str) -> BaseException:
    """Shows the worker's frames as the cause of the exception."""
    if text:
        exception.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    return exception
