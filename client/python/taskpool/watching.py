"""Changes of shared objects, as they come. PROTOCOL.md, section 3.5, `watch`."""

from __future__ import annotations

import collections
import struct
from typing import Any, Iterator, NamedTuple

from . import store, wire
from .errors import DaemonError, TimeoutError, from_head

#: Changes that are kept for a program that does not take them.
_MOST_KEPT = 4096
_VERSION = struct.Struct("<Q")
_REMOVED, _LAGGED = 5, 6
_KINDS = {1: "set", 2: "deleted", 3: "expired", 4: "changed", _REMOVED: "removed", _LAGGED: "lagged"}


class Change(NamedTuple):
    """One change of an object. `kind`: "set", "deleted" or "expired" of the dict's entry `key`; "changed": something else;
    "removed": the object is gone, and nothing follows; "lagged": changes were left out, so look for yourself."""

    kind: str
    key: Any
    version: int


class Watch:
    """Changes of an object from the moment on when it was made: an iterator, which ends with the object. Who does not take them
    loses some, and is told so by "lagged". For one thread at a time."""

    def __init__(self, opened: store.Opened, key: bytes | None) -> None:
        self._opened = opened  # which lives as long
        self._session = opened.session
        self._changes: collections.deque[tuple[int, bytes | None, int]] = collections.deque()
        self._began = False
        self._is_over = False
        self._error: BaseException | None = None
        self._request = self._session.new_request()
        self._session.expect(self._request, self)
        self._session.send(wire.encode(wire.WATCH, body=key or b"", count=0 if key is None else 1, request=self._request,
                                       target=opened.number))
        self._session.wait(lambda: self._began or self._is_over)
        if self._error is not None:
            raise self._error

    def next(self, timeout: float | None = None) -> Change:
        """The next change. Raises TimeoutError after `timeout` seconds, StopIteration after the last one, and DaemonError when there
        will be none any more because the daemon has gone: then watch again."""
        if not self._session.wait(lambda: bool(self._changes) or self._is_over, timeout):
            raise TimeoutError
        if self._changes:
            kind, key, version = self._changes.popleft()
            found = None if key is None else store.decode_key(key, self._opened.is_trusted)
            return Change(_KINDS.get(kind, "changed"), found, version)
        if self._error is not None:
            raise self._error
        raise StopIteration

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        return self.next()

    def close(self) -> None:
        """Ends it: what has come so far can still be taken."""
        if not self._is_over:
            self._is_over = True
            request = self._session.new_request()
            self._session.send(wire.encode(wire.CANCEL, head={"request": self._request}, request=request))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the session calls

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ERROR:
            if not self._is_over:  # else it was closed
                self._error = from_head(frame.fields(), False)
            self._is_over = True
            return True
        if frame.op != wire.CHANGED:
            self._began = True
            return False
        kind, key = frame.target, frame.body[_VERSION.size:] if frame.count else None
        if len(self._changes) >= _MOST_KEPT:
            self._changes.clear()
            kind, key = kind if kind == _REMOVED else _LAGGED, None
        self._changes.append((kind, key, _VERSION.unpack_from(frame.body)[0]))
        if kind == _REMOVED:
            self._is_over = True
        return kind == _REMOVED

    def on_lost(self, error: DaemonError) -> None:
        self._error = error
        self._is_over = True


__all__ = ["Change", "Watch"]
