"""A socket's frames, in and out, and whose they are: what sessions and workers have in common. The extension has the same."""

from __future__ import annotations

import collections
import select
import signal
import socket
import threading
import time
from _signal import SIG_BLOCK, SIG_UNBLOCK, pthread_sigmask  # without the names that signal's own makes of the old mask
from typing import Any, Callable, Iterator, Sequence

from . import fd_passing, wire

try:
    from . import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

_READ_BYTES = 1 << 16
#: Frames that follow each other closely are sent together: when there are so many bytes, or after so many seconds.
_BATCH_BYTES = 1 << 15
_BATCH_SECONDS = 0.001
#: What queue() and submit() say of what is to become of it; and that there was nothing that submit() could do.
MORE_OF_A_BURST, FIRST_OF_A_BURST, TO_BE_FLUSHED = range(3)
NOT_SMALL = -1
#: Signals whose handlers may raise. They wait while a frame is half read or half written, or the stream would be lost.
_INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
                         signal.SIGVTALRM, signal.SIGPROF})


class _Uninterrupted:
    """Keeps signal handlers from raising in the middle, in the one thread in which they run."""

    def __enter__(self) -> None:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            try:
                pthread_sigmask(SIG_BLOCK, _INTERRUPTS)
            except BaseException:  # a handler that had been waiting
                pthread_sigmask(SIG_UNBLOCK, _INTERRUPTS)
                raise

    def __exit__(self, *_: object) -> None:
        if self._is_main:
            pthread_sigmask(SIG_UNBLOCK, _INTERRUPTS)


class PlainStream:
    """The stream without the extension. The socket is one that blocks."""

    def __init__(self, connection: socket.socket, _frame: Any = None, _broken: Any = None) -> None:
        self._socket = connection
        self._decoder = wire.Decoder()
        self._out: collections.deque[tuple[Any, Sequence[int]]] = collections.deque()
        self._sent_at = 0.0
        self._send_lock = threading.Lock()
        self._order = threading.Lock()

    @property
    def queued(self) -> int:
        """Bytes to be sent."""
        return sum([len(data) for data, _ in list(self._out)])  # a copy: others may queue meanwhile

    # In

    def read(self, timeout_ms: int = -1, wake: int = -1, for_room: bool = False, spin: bool = False) -> bool:
        """Reads what arrives, for so long (-1: for ever) or until the descriptor `wake` is readable, or with `for_room`, until
        there is room for what is queued. False if nothing came. `spin`: what comes may be near enough not to sleep for it. Raises
        EOFError, OSError."""
        flags: int = socket.MSG_DONTWAIT
        if timeout_ms < 0 and wake < 0 and not for_room:
            flags = 0
        elif timeout_ms != 0:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if for_room else 0))
            if wake >= 0:
                poll.register(wake, select.POLLIN)
            poll.poll(timeout_ms if timeout_ms > 0 else None)
        if not flags:
            data, fds = fd_passing.receive(self._socket, max(_READ_BYTES, self._decoder.missing()))
            self._decoder.feed(data, fds)
        else:
            with _Uninterrupted():
                try:
                    data, fds = fd_passing.receive(self._socket, max(_READ_BYTES, self._decoder.missing()), flags=flags)
                except BlockingIOError:
                    return False
                self._decoder.feed(data, fds)
        if not data:
            raise EOFError("the other end has closed the connection")
        return True

    def next(self) -> wire.Frame | None:
        """The next whole frame, or None. Raises BrokenStream."""
        return self._decoder.next()

    def dispatch(self, handlers: dict[int, Any], stray: Callable[[wire.Frame], None]) -> None:
        """Gives each frame that is there to the handler of its request, or to `stray`. Raises what they raise, and BrokenStream."""
        if not self._decoder.has_frame():
            return
        with _Uninterrupted():
            while (frame := self._decoder.next()) is not None:
                handler = handlers.get(frame.request)
                if handler is None:
                    stray(frame)
                elif handler.on_frame(frame):
                    handlers.pop(frame.request, None)

    def run(self, page: Any, _runners: dict[int, Any], kept: list[wire.Frame]) -> wire.Frame | None:
        """In a worker: the next frame, or None at the end of the stream. The extension runs those for which there is a runner, by
        itself, and returns the others, and those that `kept` got meanwhile. Raises OSError."""
        if kept:
            return kept.pop(0)
        while (frame := self._decoder.next()) is None:
            page.flush(self._socket)
            try:
                self.read()
            except EOFError:
                return None
        return frame

    # Out

    def queue(self, data: bytes, fds: Sequence[int] = ()) -> int:
        """Appends frames to what is to be sent; the descriptors go with the first byte. Says what is to become of it."""
        before = self.queued
        self._out.append((data, fds))
        if before + len(data) >= _BATCH_BYTES or time.monotonic() - self._sent_at > _BATCH_SECONDS:
            return TO_BE_FLUSHED
        return MORE_OF_A_BURST if before else FIRST_OF_A_BURST

    def submit(self, handlers: dict[int, Any], pending: Any, request: int, target: int, arguments: Any, keywords: Any) -> int:
        """Queues a call of a prepared function, if it is a small one, and expects its result; NOT_SMALL: nothing has been done."""
        return NOT_SMALL

    def store(self, handlers: dict[int, Any], reply: Any, numbers: Iterator[int], count: int, body: bytes, flags: int) -> int:
        """Queues operations of the store, whose reply is expected unless that is None; returns the number of the request, the next
        one of the iterator. Numbers rise with the order in which requests are queued."""
        with self._order:
            request = next(numbers)
            if reply is not None:
                handlers[request] = reply
            self._out.append((wire.PREFIX.pack(len(body), 0, wire.STORE, flags, request, 0, count, 0, 0) + body, ()))
        return request

    def flush(self) -> bool:
        """Sends what the socket takes; True if that is all. Raises OSError."""
        with _Uninterrupted(), self._send_lock:
            while self._out:
                data, fds = self._out.popleft()
                if not fds and self._out:  # as much as possible in one call
                    parts = [data]
                    while self._out and not self._out[0][1] and len(parts) < 512:
                        parts.append(self._out.popleft()[0])
                    data = b"".join(parts)
                try:
                    sent = self._send_some(data, fds)
                except BlockingIOError:
                    sent = 0
                if sent:
                    fds = ()
                if sent < len(data):
                    self._out.appendleft((memoryview(data)[sent:] if sent else data, fds))
                    break
            self._sent_at = time.monotonic()
            return not self._out

    def _send_some(self, data: Any, fds: Sequence[int]) -> int:
        if not fds:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return socket.send_fds(self._socket, [data], list(fds), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Nothing is read or sent any more."""
        self._out.clear()


Stream: Any = PlainStream if _native is None else _native.Stream
