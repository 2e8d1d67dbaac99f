"""imap: results one by one, from an iterable that is read no further than it has to be."""

from __future__ import annotations

import collections
from typing import Any, Iterable, Iterator, Sequence

from .calls import Caller
from .errors import TimeoutError
from .maps import Chunk, Job


class IMapIterator(Job):
    """The results of an imap, one by one, in order. Takes from its iterable no more than it may have under way, and only when
    a result is asked for."""

    def __init__(self, caller: Caller, function: Any, elements: Iterable[Any], workers: int, chunksize: int) -> None:
        super().__init__(caller, function, False, workers)
        self._source = iter(elements)
        self._chunksize = 1 if self._is_native else chunksize
        self._taken = 0
        self._exhausted = False
        self._ready: dict[int, tuple[bool, Any]] = {}
        self._given = 0
        self._arrived = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result. Raises what its element raised, TimeoutError after `timeout` seconds, StopIteration at the end."""
        self.feed()
        if not self._has_next() and not self._session.wait(self._may_go_on, timeout):
            raise TimeoutError
        if not self._has_next():
            raise StopIteration
        failed, value = self._pop()
        if failed:
            raise value
        return value

    __next__ = next

    def _has_next(self) -> bool:
        return self._given in self._ready

    def _may_go_on(self) -> bool:
        return self._has_next() or (self._exhausted and self._given >= self._taken)

    def _pop(self) -> tuple[bool, Any]:
        outcome = self._ready.pop(self._given)
        self._given += 1
        return outcome

    # What the job asks

    def _window(self) -> int:
        return max(64, 16 * self._workers)

    def window_is_full(self) -> bool:
        return super().window_is_full() or len(self._ready) >= 4 * self._window() * self._chunksize

    def _next_chunk(self) -> Chunk | None:
        elements: list[Any] = []
        while len(elements) < self._chunksize and not self._exhausted:
            try:
                elements.append(next(self._source))
            except StopIteration:
                self._exhausted = True
            except Exception as error:  # of the iterable: it has its place among the results
                self._exhausted = True
                start = self._taken + len(elements)
                self._taken += len(elements) + 1
                self._take(start, [None], {0: error})
                return Chunk(self._taken - 1 - len(elements), elements) if elements else None
        if not elements:
            return None
        start = self._taken
        self._taken += len(elements)
        return Chunk(start, elements)

    def _has_all(self) -> bool:
        return self._exhausted and self._arrived >= self._taken

    def _take(self, start: int, outcomes: Sequence[Any], failures: dict[int, BaseException]) -> None:
        for position, value in enumerate(outcomes):
            failed = position in failures
            self._ready[start + position] = (failed, failures[position] if failed else value)
        self._arrived += len(outcomes)

    def _rest_failed(self, error: BaseException) -> None:
        if not self._exhausted:
            self._exhausted = True
            self._ready[self._taken] = (True, error)
            self._taken += 1

    def _end(self) -> None:
        pass


class IMapUnorderedIterator(IMapIterator):
    """The same, in the order of their ends."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._queue: collections.deque[tuple[bool, Any]] = collections.deque()

    def _has_next(self) -> bool:
        return bool(self._queue)

    def _pop(self) -> tuple[bool, Any]:
        self._given += 1
        return self._queue.popleft()

    def window_is_full(self) -> bool:
        return Job.window_is_full(self) or len(self._queue) >= 4 * self._window() * self._chunksize

    def _take(self, start: int, outcomes: Sequence[Any], failures: dict[int, BaseException]) -> None:
        for position, value in enumerate(outcomes):
            failed = position in failures
            self._queue.append((failed, failures[position] if failed else value))
        self._arrived += len(outcomes)

    def _rest_failed(self, error: BaseException) -> None:
        if not self._exhausted:
            self._exhausted = True
            self._taken += 1
            self._queue.append((True, error))

