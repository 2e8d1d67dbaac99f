"""What waits for the result of one call: as little as can be, as there may be thousands. The extension has the same."""

from __future__ import annotations

import threading
from typing import Any, Callable

from . import payload, wire

try:
    from . import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]


class PlainCounter:
    """Counts what is under way."""

    def __init__(self) -> None:
        self.count = 0
        #: Called when there is nothing any more.
        self.on_idle: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def began(self) -> None:
        with self._lock:
            self.count += 1

    def ended(self) -> None:
        with self._lock:
            self.count -= 1
            is_idle = self.count == 0
        if is_idle and self.on_idle is not None:
            self.on_idle()


class PlainPending:
    """A call whose result has not been asked for."""

    _done = False
    _body: bytes | None = None  # of the result's frame, until it is decoded
    _encoding = 0
    _flags = 0
    _value: Any = None
    _error: BaseException | None = None
    _counter: PlainCounter

    def _count_in(self, counter: PlainCounter) -> None:
        self._counter = counter

    def _settle(self) -> bool:
        """Makes the value of the body, or the error, if that is one pickle; False if more has to be done."""
        body = self._body
        if body is None:
            return True
        if self._encoding != wire.AS_PICKLE or self._flags:
            return False
        try:
            self._value = payload.decode(body)
        except (Exception, SystemExit) as error:
            self._error = error
        self._body = None  # last: another thread may look meanwhile, and an interrupt makes this go unfinished
        return True


Counter: Any = PlainCounter if _native is None else _native.Counter
Pending: Any = PlainPending if _native is None else _native.Pending
