"""One session with the daemon: requests out, replies in, from any thread.

Whoever waits for a reply reads the socket himself and hands out what arrives, so that a call costs no change of threads; others
that wait meanwhile are woken by him. A thread of the client's own (the driver) does that only while nobody waits and something
has to happen all the same: a callback, the feeding of a map, the sending of what the socket did not take at once."""

from __future__ import annotations

import collections
import functools
import itertools
import json
import os
import select
import socket
import sys
import threading
import time
import warnings
from typing import Any, Callable, Protocol, Sequence

from . import autostart, wire
from .arena import DownArena, Region, UpArena
from .errors import DaemonError, DaemonGone, OutcomeUnknown, TaskTimeout, from_head
from .stream import FIRST_OF_A_BURST, TO_BE_FLUSHED, Stream

#: How long a client waits for a daemon that is starting, in seconds.
CONNECT_TIMEOUT = 30.0
#: How long after its end a daemon is waited for that may come back, by a program that has shared objects, in seconds.
_RESUME_SECONDS = 5.0
#: How long after its end a connection's waits may go on that its end has not ended yet, in seconds.
_TELL_SECONDS = 2.0
#: How long the driver lets a burst of frames grow, in seconds.
_BATCH_SECONDS = 0.001
#: With more requests under way than this, what comes next is not far, but it has work to share the CPUs with: no spinning.
_SPIN_REQUESTS = 4
#: What following the stream, or a reply, raises if the daemon does not keep to the protocol.
_NONSENSE = (wire.BrokenStream, ValueError, KeyError, IndexError)
_CLOSED = "the daemon closed the connection"
_pid = os.getpid()  # of this process, without a system call


class Handler(Protocol):
    """Somebody who waits for replies to one request."""

    def on_frame(self, frame: wire.Frame) -> bool:
        """Takes a reply; True if it was the last. Must not wait, nor run foreign code."""

    def on_lost(self, error: DaemonError) -> None:
        """There will be no reply any more."""


class _Reply:
    """What one plain request waits for."""

    __slots__ = ("frame", "error")

    def __init__(self) -> None:
        self.frame: wire.Frame | None = None
        self.error: BaseException | None = None

    def is_done(self) -> bool:
        return self.frame is not None or self.error is not None

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ERROR:
            self.error = from_head(frame.fields(), False)
        else:
            self.frame = frame
        return True

    def on_lost(self, error: DaemonError) -> None:
        self.error = error


class ResultRefs:
    """The objects of the store that a result names: the daemon keeps them until this goes."""

    __slots__ = ("_session", "_frame")

    def __init__(self, session: Session, frame: wire.Frame) -> None:
        self._session = session
        self._frame = frame

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._session.release_refs(self._frame)


class Session:
    """A connection that has been greeted. Ends for good when the connection does: then everything that waits fails, and
    `is_broken` says so."""

    def __init__(self, connection: socket.socket, place: autostart.Place) -> None:
        self.place = place
        self.pid = os.getpid()
        self.is_broken = False
        self.welcome: dict[str, Any] = {}
        self.down = DownArena()
        self.up = UpArena(self._open_segment)
        self.up_released = 0  # counts regions given back, so that one may wait for that
        self.free_objects: list[int] = []  # numbers of objects of the store that were closed
        self.last_object = 0
        self.segments: Any = None  # of the store: mapping.Segments, once an object was opened
        self.lost: list[tuple[int, Any]] = []  # requests of the store that had no answer when the connection broke, by number
        self.broken_at = 0.0
        self.is_closed = False
        self.quiet: collections.deque[int] = collections.deque(maxlen=1024)  # requests of which only a failure would be heard
        self.free_numbers = collections.deque(range(1, wire.MAX_PREPARED_CALLS + 1))  # for prepared calls
        self._socket = connection
        self._fileno = connection.fileno()
        self.stream = Stream(connection, wire.Frame, wire.BrokenStream)
        self._requests = itertools.count(1)
        self.handlers: dict[int, Handler] = {}
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._running_calls = 0
        self._reader = threading.Lock()
        self._leader = 0
        self._change = threading.Condition(threading.Lock())
        self._followers = 0
        self._background = 0
        self._driver_wanted = threading.Event()
        self._driver: threading.Thread | None = None
        self._driver_lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # type: ignore[attr-defined]  # wakes the driver while it reads
        self._may_spin = len(os.sched_getaffinity(0)) > 1 and os.environ.get("TASKPOOL_SPIN") != "0"
        self.is_in_task = bool(os.environ.get("TASKPOOL_WORKER_TOKEN"))

    @functools.cached_property
    def is_trusted(self) -> bool:
        """Whether pickles from there may be read: its workers run as this user, or as root."""
        return self.welcome.get("uid", 0) in (os.geteuid(), 0)

    # Requests

    def new_request(self) -> int:
        return next(self._requests)

    def expect(self, request: int, handler: Handler) -> None:
        """From now on the replies to `request` are the handler's."""
        self.handlers[request] = handler
        if self.is_broken:
            self.lose(request)

    def lose(self, request: int) -> None:
        """Tells the handler of that request that there is no connection any more."""
        handler = self.handlers.pop(request, None)
        if handler is not None:
            handler.on_lost(DaemonGone("the connection to the daemon has ended; what belonged to it has gone"))

    def forget(self, request: int) -> None:
        self.handlers.pop(request, None)

    def post(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Queues a frame, to be sent with what else is there. Never waits; safe in a destructor."""
        self.stream.queue(data, fds)
        self._wake_driver()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends a frame, now or with the others of a burst."""
        self.follow(self.stream.queue(data, fds))

    def follow(self, advice: int) -> None:
        """Does what the stream said is to become of what it has queued."""
        if advice == TO_BE_FLUSHED:
            self.flush()
        elif advice == FIRST_OF_A_BURST:
            self._wake_driver()

    def store(self, reply: Any, count: int, body: bytes, flags: int = 0) -> int:
        """Sends operations of the store; `reply` (a StoreReply) gets what they return, None is for those that are quiet. The number
        of the request is above those of all that were sent before it, as the store wants it."""
        request = int(self.stream.store(self.handlers, reply, self._requests, count, body, flags))
        if self.is_broken and reply is not None:
            self.lose(request)
        if flags & wire.QUIET:
            self.quiet.append(request)
        self.flush()
        return request

    def ask_frame(self, op: int, head: dict[str, Any] | None = None, fds: Sequence[int] = (),
                  timeout: float | None = None) -> wire.Frame:
        """A request and its one reply. Raises its error, or TaskTimeout."""
        request = self.new_request()
        reply = _Reply()
        self.expect(request, reply)
        self.send(wire.encode(op, head=head, request=request, fds=len(fds)), fds)
        if not self.wait(reply.is_done, timeout):
            self.forget(request)
            raise TaskTimeout(f"no reply within {timeout} s")
        if reply.error is not None:
            raise reply.error
        assert reply.frame is not None
        return reply.frame

    def ask(self, op: int, head: dict[str, Any] | None = None, fds: Sequence[int] = (),
            timeout: float | None = None) -> dict[str, Any]:
        """The object that the reply holds."""
        answer = json.loads(self.ask_frame(op, head, fds, timeout).body)
        return answer if isinstance(answer, dict) else {}

    def _open_segment(self, size: int) -> tuple[int, int, int]:
        frame = self.ask_frame(wire.ARENA_OPEN, {"bytes": size})
        opened = json.loads(frame.body)
        return opened["segment"], opened["bytes"], frame.fds[0]

    # Waiting

    def wait(self, is_done: Callable[[], bool], timeout: float | None = None, lend_after: float = 0.0) -> bool:
        """Waits until `is_done`, which somebody's on_frame() makes true; False after `timeout` seconds. In a task its worker's place
        is lent after `lend_after` seconds."""
        if is_done():
            return True
        self._check_process()
        if self.stream.queued:
            self.flush()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self.is_in_task:
            return self._wait(is_done, deadline)
        if lend_after and self._wait(is_done, time.monotonic() + lend_after):
            return True
        self.post(wire.encode(wire.NESTED_WAIT, target=1))
        try:
            return self._wait(is_done, deadline)
        finally:
            self.post(wire.encode(wire.NESTED_WAIT))

    def _wait(self, is_done: Callable[[], bool], deadline: float | None) -> bool:
        while not is_done():
            if self.is_broken and not self._await_end(is_done, deadline):
                return is_done()
            if self._leader == threading.get_ident():  # a callback that waits
                if not self._lead(is_done, deadline):
                    return False
            elif self._reader.acquire(blocking=False):
                self._leader = threading.get_ident()
                try:
                    in_time = self._lead(is_done, deadline)
                finally:
                    self._leader = 0
                    self._reader.release()
                    self._wake_followers()
                    if self._background:
                        self._wake_driver()
                if not in_time:
                    return is_done()
            elif self._is_driver():
                return False  # it flushes for the one who leads, who wakes it when he leaves
            elif not self._follow(is_done, deadline):
                return is_done()
        return True

    def _is_driver(self) -> bool:
        driver = self._driver
        return driver is not None and driver.ident == threading.get_ident()

    def _await_end(self, is_done: Callable[[], bool], deadline: float | None) -> bool:
        """After the connection has broken: nothing is read any more, and what waits is being told so, perhaps by another thread. False
        at the deadline. Raises DaemonGone for a wait that nobody ends."""
        until = time.monotonic() + _TELL_SECONDS
        while True:
            if self._leader in (0, threading.get_ident()):
                self._run_calls()
            if is_done():
                return True
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if now >= until and not self._running_calls:
                raise DaemonGone("the connection to the daemon has ended, and nothing else ends what is waited for")
            with self._change:
                self._change.wait(0.01)

    def _follow(self, is_done: Callable[[], bool], deadline: float | None) -> bool:
        with self._change:
            self._followers += 1
            try:
                if is_done() or not self._reader.locked():
                    return True
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._change.wait(left)
                return True
            finally:
                self._followers -= 1

    def _wake_followers(self) -> None:
        if self._followers:
            with self._change:
                self._change.notify_all()

    def _lead(self, is_done: Callable[[], bool], deadline: float | None) -> bool:
        """Reads and hands out until `is_done`, the connection has broken, or the deadline: False then."""
        is_driver = self._is_driver()
        wake = self._wake if is_driver else -1
        stream, handlers = self.stream, self.handlers
        timeout_ms = -1
        while True:
            self._hand_out()
            if stream.queued:
                self.flush()
            if is_done() or self.is_broken:
                return True
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                timeout_ms = max(1, int(left * 1000))
            spin = self._may_spin and not is_driver and len(handlers) <= _SPIN_REQUESTS
            try:
                stream.read(timeout_ms, wake, stream.queued > 0, spin)
            except EOFError:
                self._break(_CLOSED)
            except OSError as error:
                self._break(str(error))
            if is_driver and self._driver_wanted.is_set():
                self._driver_wanted.clear()
                try:
                    os.eventfd_read(self._wake)  # type: ignore[attr-defined]
                except BlockingIOError:
                    pass

    def _hand_out(self) -> None:
        """Gives what has been read to whoever waits for it."""
        try:
            self.stream.dispatch(self.handlers, self._on_stray)
        except _NONSENSE as error:
            self._break(f"the daemon sent nonsense: {error!r}")
        if self._followers:
            self._wake_followers()
        if self._calls:
            self._run_calls()

    def receive(self) -> None:
        """Hands out what has arrived; does not wait. For the leader."""
        self._hand_out()
        if not self.is_broken:
            try:
                self.stream.read(0, -1, self.stream.queued > 0, False)
            except EOFError:
                self._break(_CLOSED)
            except OSError as error:
                self._break(str(error))
            self._hand_out()
            if self.stream.queued:
                self.flush()

    def _run_calls(self) -> None:
        if not self._calls:
            return
        while self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:  # another thread was quicker
                break
            self._running_calls += 1
            try:
                call()
            except (Exception, SystemExit):
                sys.excepthook(*sys.exc_info())
            finally:
                self._running_calls -= 1
        self._wake_followers()

    def peek(self) -> None:
        """Hands out what has arrived, unless somebody else is doing that. Does not wait."""
        self._check_process()
        if self.stream.queued:
            self.flush()
        if self._reader.acquire(blocking=False):
            self._leader = threading.get_ident()
            try:
                self.receive()
            finally:
                self._leader = 0
                self._reader.release()
                self._wake_followers()
                if self._background:
                    self._wake_driver()

    def _on_stray(self, frame: wire.Frame) -> None:
        if frame.op == wire.ARENA_SEGMENT:
            fields = frame.fields()
            self.down.attach(fields["segment"], fields["bytes"], frame.fds[0])
            return
        if frame.op == wire.ERROR and frame.request == 0:
            return self._break(str(from_head(frame.fields(), False)))
        if frame.op == wire.ERROR and frame.request in self.quiet:
            detail = str(from_head(frame.fields(), False))
            self.call_later(lambda: warnings.warn(f"what was not waited for failed: {detail}", RuntimeWarning))
        for fd in frame.fds:
            os.close(fd)
        if frame.op in (wire.RESULT, wire.RESULTS):  # nobody wants it any more
            if frame.flags & wire.IN_ARENA:
                self.release(frame.body)
            self.release_refs(frame)

    def release_up(self, region: Region) -> None:
        """The task that an up region belongs to has ended."""
        self.up.release(region)
        self.up_released += 1

    def release(self, body: bytes) -> None:
        """Gives regions of the down arena back, as the body of a frame named them."""
        self.stream.queue(wire.encode(wire.ARENA_RELEASE, body=body, count=len(body) // wire.REFERENCE.size))
        if self._leader != threading.get_ident():  # who leads flushes
            self._wake_driver()

    def release_refs(self, frame: wire.Frame) -> None:
        """Lets go of the objects that this result names; with whatever else is sent. Safe in a destructor."""
        if frame.head and not self.is_broken and self.pid == _pid:
            if refs := frame.fields().get("refs"):
                self.post(wire.encode(wire.RELEASE_REFS, head={"refs": refs}))

    def call_later(self, call: Callable[[], None]) -> None:
        """For on_frame(): runs foreign code when the stream is at rest. What it raises is shown, and nothing else. Runs it at
        once if this thread is not the one that reads."""
        self._calls.append(call)
        if self._leader != threading.get_ident():
            self._run_calls()

    # Sending

    def flush(self) -> None:
        """Sends what the socket takes. What is left is sent by this thread when it leads, or by the driver."""
        if self.is_broken:
            return
        try:
            is_all = self.stream.flush()
        except OSError as error:
            return self._break(str(error))
        if not is_all and self._leader != threading.get_ident():  # another one who leads does not watch for room
            self._wake_driver()

    # The driver

    def add_background(self) -> None:
        """Something has to happen even while nobody waits, until remove_background()."""
        with self._change:
            self._background += 1
        self._wake_driver()

    def remove_background(self) -> None:
        with self._change:
            self._background -= 1

    def _wake_driver(self) -> None:
        if self._driver is None and self._driver_lock.acquire(blocking=False):  # else somebody is starting it
            try:
                if self._driver is None and not self.is_broken:
                    self._driver = threading.Thread(target=self._drive, name="taskpool", daemon=True)
                    self._driver.start()
            except RuntimeError:  # the interpreter is ending, or has no threads left: whoever waits flushes
                self._driver = None
            finally:
                self._driver_lock.release()
        if not self._driver_wanted.is_set():
            self._driver_wanted.set()
        if self._leader and self._driver is not None and self._leader == self._driver.ident:
            os.eventfd_write(self._wake, 1)  # type: ignore[attr-defined]

    def _drive(self) -> None:
        poll = select.poll()  # of this thread: a leader may begin to poll meanwhile, and an object serves one at a time
        poll.register(self._wake, select.POLLIN)
        poll.register(self._fileno, select.POLLIN | select.POLLOUT)
        while not self.is_broken:
            self._driver_wanted.wait()
            self._driver_wanted.clear()
            while self.stream.queued and not self.is_broken:
                time.sleep(_BATCH_SECONDS)  # more of a burst may come, and whoever waits flushes by himself
                self.flush()
                if self.stream.queued and not self._leader:
                    poll.poll(100)
                    self.peek()
            if self._background:
                self._wait(lambda: self._background == 0 or self.is_broken, None)

    # The end

    def _check_process(self) -> None:
        if self.pid != _pid:
            raise DaemonGone("this process was forked after the request was made; it has to make its own")

    def _break(self, why: str) -> None:
        if self.is_broken:
            return
        self.broken_at = time.monotonic()  # first: whoever sees that it is broken counts from it
        self.is_broken = True
        self.stream.close()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # whoever reads it hears of it
        except OSError:
            pass
        self._socket.close()
        error = OutcomeUnknown(why)
        handlers: list[tuple[int, Handler]] = []
        while self.handlers:  # one by one: who adds another one just now looks whether it has to tell it itself
            handlers.append(self.handlers.popitem())
        handlers.sort(key=lambda entry: entry[0])
        self.lost = [(request, handler) for request, handler in handlers if hasattr(handler, "send_again")]
        for _, handler in handlers:
            handler.on_lost(error)
        self._wake_followers()
        self._driver_wanted.set()

    def close(self) -> None:
        """Ends the session: what it has running is cancelled, and its pools end."""
        self.is_closed = True
        self._break("the session was closed")

    def may_go_on(self) -> bool:
        """Whether this session has something that another one may take over: objects of the store."""
        return self.segments is not None and not self.is_closed and self.pid == os.getpid()

    def take_over(self, broken: Session) -> None:
        """Goes on with what the broken session held, and with what it had not been answered. Before anything else is sent."""
        self._requests = itertools.count(max(broken.new_request(), self.new_request()))
        self.last_object = broken.last_object
        lost, broken.lost = broken.lost, []
        for number, request in lost:
            request.send_again(self, number)
        self.flush()

    def abandon(self) -> None:
        """In a fork of the process whose session this is."""
        self.is_broken = True
        self.stream.close()
        try:
            os.close(self._socket.detach())
        except OSError:
            pass


def open_session(named: str | None = None, timeout: float = CONNECT_TIMEOUT, broken: Session | None = None) -> Session:
    """Connects to the daemon on that socket, or finds one, or starts one. It is asked to go on with what the `broken` session held.
    Raises NoDaemon, TaskTimeout, OSError."""
    deadline = time.monotonic() + timeout
    last: BaseException | None = None
    for place in autostart.places(named):
        try:
            return _greet(place, deadline, broken)
        except (DaemonError, OSError) as error:
            last = error
            if not place.is_private or not autostart.may_start(error):
                continue
        pause = 0.01
        while True:  # a daemon may be leaving just now
            try:
                autostart.start(place.socket, deadline)
                return _greet(place, deadline, broken)
            except DaemonGone:
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
    assert last is not None
    raise last


def _greet(place: autostart.Place, deadline: float, broken: Session | None) -> Session:
    session = Session(autostart.connect(place.socket), place)
    hello: dict[str, Any] = {"version": wire.VERSION, "capabilities": ["result_refs"], "client": os.path.basename(sys.argv[0] or "python")[:64]
                             if getattr(sys, "argv", None) else "python"}
    if token := os.environ.get("TASKPOOL_WORKER_TOKEN"):
        hello["worker_token"] = token
    if broken is not None and broken.place.socket == place.socket:
        hello["resume"] = broken.welcome.get("token", "")
    try:
        frame = session.ask_frame(wire.HELLO, hello, timeout=deadline - time.monotonic())
    except OutcomeUnknown as error:
        raise DaemonGone(error.detail) from None
    session.welcome = frame.fields()
    if broken is not None and session.welcome.get("resumed"):
        session.take_over(broken)
    return session


def _go_on(broken: Session) -> Session:
    """A session in place of one that broke off, with a daemon that may be starting just now."""
    deadline = broken.broken_at + _RESUME_SECONDS
    pause = 0.01
    while True:
        try:
            return open_session(broken=broken)
        except (DaemonError, OSError):
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


_default: Session | None = None
_default_lock = threading.Lock()


def default() -> Session:
    """This process's session with the daemon; opened at first use, and again after a fork or when the daemon has gone."""
    global _default
    session = _default
    if session is not None and not session.is_broken:
        return session
    with _default_lock:
        if _default is None or _default.is_broken:
            _default = _go_on(_default) if _default is not None and _default.may_go_on() else open_session()
        return _default


def _after_fork_in_child() -> None:
    global _default, _default_lock, _pid
    _pid = os.getpid()
    _default_lock = threading.Lock()
    if _default is not None:
        _default.abandon()
        _default = None


os.register_at_fork(after_in_child=_after_fork_in_child)
