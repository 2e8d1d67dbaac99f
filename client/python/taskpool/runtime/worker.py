"""A worker: a blocking loop that runs what the supervisor gives it. PROTOCOL.md, sections 3.2 and 3.6."""

from __future__ import annotations

import _signal
import array
import atexit
import base64
import json
import mmap
import os
import pickle
import resource
import socket
import struct
import sys
import time
import traceback
from multiprocessing import process, util
from typing import Any, Callable, NoReturn, Sequence

from .. import names, payload, tracking, wire
from ..arena import Memory
from ..errors import MaybeEncodingError
from ..stream import Stream
from . import page, setup

_RUN_HEADER = struct.Struct("<QIIIIIIQQQII")
_SINGLE = 1
_MOST_TRACEBACK = 20_000
_EXIT_CHANNEL_LOST = 3
#: Room is asked for ahead for results up to so large, of functions that take no longer.
_MOST_FORESEEN_BYTES = 2 << 20
_MOST_FORESEEN_SECONDS = 0.01
#: Shared objects that one result may name. A chunk of many elements may name more: those live for the daemon's session_grace.
_MOST_REFS = 1024


class TaskInterrupted(BaseException):
    """Raised in a task that was cancelled or reached its soft timeout."""


class Refused(Exception):
    """A task that cannot be run or answered as it is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Worker:
    def __init__(self, channel: socket.socket, shared: mmap.mmap, task_prefix: str) -> None:
        self.pid = os.getpid()
        self._channel = channel
        self._stream = Stream(channel, wire.Frame, wire.BrokenStream)
        self._kept: list[wire.Frame] = []
        self._page = page.Page(memoryview(shared))
        self._functions: dict[int, str] = {}
        #: What the extension runs by itself: by number, the function; whether it is a map's; and whom to tell of what.
        self._runners: dict[int, tuple[Any, ...]] = {}
        self._map_failures: dict[int, tuple[Any, str]] = {}
        self._segments: dict[tuple[int, bool, int], Memory] = {}
        self._task_prefix = task_prefix
        #: By number of a function, how large its last result was, if the next one may be like it; see _foresee().
        self._likely_room: dict[int, int] = {}
        self._asked_for = -1  # the ticket for which room has been asked last, and not been taken
        self._is_single = False
        self._process: Any = None  # the object that `!process` runs

    # The channel

    def send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError:
            self._lost()

    def flush(self) -> None:
        """Sends what the outbox holds."""
        try:
            self._page.flush(self._channel)
        except OSError:
            self._lost()

    def _lost(self) -> NoReturn:
        os._exit(_EXIT_CHANNEL_LOST)

    def _leave_if_copy(self) -> None:
        if os.getpid() != self.pid:  # a task that forked and returned in the child
            os._exit(0)

    def _next_frame(self) -> wire.Frame | None:
        """The next frame that is not run by the extension; None at the end."""
        try:
            return self._stream.run(self._page, self._runners, self._kept)
        except OSError:
            self._lost()

    def _take_arena_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ATTACH:
            fields = frame.fields()
            is_down = fields.get("down", False)
            try:
                memory = Memory(frame.fds[0], fields["bytes"], is_down)
            finally:
                os.close(frame.fds[0])
            self._segments[fields["session"], is_down, fields["segment"]] = memory
            return True
        if frame.op == wire.DETACH:
            session = frame.fields()["session"]
            for key in [key for key in self._segments if key[0] == session]:
                del self._segments[key]
            return True
        return False

    def _view(self, session: int, is_down: bool, reference: Sequence[int]) -> memoryview:
        segment, offset, size = reference
        if size == 0:
            return memoryview(b"")
        memory = self._segments.get((session, is_down, segment))
        if memory is None:  # it is announced before it is named, unless the supervisor had no descriptor left to send it with
            raise Refused("out_of_space", f"segment {segment} of session {session}: the daemon could not pass it on")
        if offset + size > memory.size:
            raise Refused("bad_message", f"segment {segment} of session {session}: no {size} bytes at {offset}")
        return memory.part(offset, size)

    # Tasks

    def run(self) -> None:
        """Runs tasks until the supervisor closes the channel."""
        _signal.signal(_signal.SIGUSR1, self._on_interrupt)
        while (frame := self._next_frame()) is not None:
            if frame.op == wire.RUN:
                self._run_frame(frame)
            elif frame.op == wire.DEFINE:
                self._define(frame.target, frame.fields()["function"])
            else:
                self._take_arena_frame(frame)

    def _define(self, number: int, name: str) -> None:
        """From now on that is the function's number. Where its module is there, even the first of its tasks needs nothing of this
        class; else it is imported by the first task, so that this counts as running."""
        self._functions[number] = name
        kind, _, of_map = name.rpartition(" ")
        module, _, attribute = of_map.rpartition(".")
        if kind in ("", "!map") and attribute in getattr(sys.modules.get(module), "__dict__", ()):
            self._learn(number, name)

    def list_functions(self, listed: Sequence[str]) -> None:
        """The functions that `ready` listed, whose numbers are their places."""
        self._functions.update(enumerate(listed))

    def _on_interrupt(self, *_: Any) -> None:
        reason = self._page.interrupt()
        if reason:
            raise TaskInterrupted("cancelled" if reason == 1 else "its soft time limit passed")

    def _run_frame(self, frame: wire.Frame) -> None:
        header = _RUN_HEADER.unpack_from(frame.body)
        session, flags = header[5], header[6]
        is_single = self._is_single = bool(flags & _SINGLE)
        ticket = frame.request
        body = memoryview(frame.body)[_RUN_HEADER.size:]
        name = self._functions.get(frame.target, "")
        items: Sequence[Any]
        if frame.encoding in wire.NUMBERS:
            items = self._numbers(frame, body, session, is_single)
        elif frame.flags & wire.IN_ARENA:
            items = wire.references(bytes(body))
        elif is_single:
            items = (body,)
        else:
            items = wire.unpack(frame.count, body)  # type: ignore[arg-type]
        claim, finish = self._page.claim, self._page.finish
        for item in items:
            if claim(ticket):
                if self._page.is_due():
                    self.flush()
                self._run_item(name, frame, session, ticket, item)
                finish(ticket)
                if self._page.used > page.FLUSH_BYTES:
                    self.flush()
            else:
                self._page.skip(ticket)
            ticket = (ticket + 1) & 0xFFFFFFFF
        if frame.encoding == wire.AS_PICKLE and frame.target not in self._runners:
            self._learn(frame.target, name)

    def _learn(self, number: int, name: str) -> None:
        """From now on the extension runs what the function of that number is given."""
        kind, _, of_map = name.rpartition(" ")
        if name.startswith("!") and kind != "!map":
            return
        try:
            function = names.find(of_map)
        except Exception:
            return
        self._runners[number] = (function, kind == "!map", self._note_failure, self._map_failures, self._refuse, self._add_large)

    def _note_failure(self, position: int, error: BaseException) -> None:
        """An element of a map raised that."""
        self._map_failures[position] = (_travelling(error), describe(error))

    def _refuse(self, ticket: int, error: BaseException) -> None:
        """The item of that ticket has no result."""
        self._leave_if_copy()
        self._add_failure(ticket, error)

    def _add_large(self, ticket: int, session: int, is_single: bool, value: Any) -> None:
        """The item of that ticket has a result that may be large, or that only this package can pickle."""
        self._leave_if_copy()
        self._is_single = is_single
        self._add_result(ticket, session, wire.AS_PICKLE, *_encode_result(value))

    def _numbers(self, frame: wire.Frame, body: memoryview, session: int, is_single: bool) -> Sequence[Any]:
        if frame.flags & wire.IN_ARENA:
            body = self._view(session, False, wire.references(bytes(body))[0])
        values = array.array(wire.NUMBERS[frame.encoding])
        values.frombytes(body)
        return (values,) if is_single else values

    def _run_item(self, name: str, frame: wire.Frame, session: int, ticket: int, item: Any) -> None:
        try:
            began = time.monotonic()
            if self._is_single and frame.target in self._likely_room:
                self._want_room(ticket, self._likely_room[frame.target])
            if frame.encoding == wire.AS_PICKLE:
                view = self._view(session, False, item) if frame.flags & wire.IN_ARENA else item
                result, refs = _encode_result(self._run_pickle(name, view))
                encoding = wire.AS_PICKLE
            else:
                refs = []
                result = self._run_value(name, frame, session, item)
                encoding = wire.AS_JSON
            self._leave_if_copy()
            self._foresee(frame.target, result.size, time.monotonic() - began)
            self._add_result(ticket, session, encoding, result, refs)
        except BaseException as error:
            self._leave_if_copy()
            self._add_failure(ticket, error)

    def _foresee(self, number: int, size: int, seconds: float) -> None:
        """Notes whether room for the next result of that function is to be asked for before it runs, so that it is there when it is
        needed. Where that would keep much memory, or for long, it is not worth the time that it saves."""
        if wire.MAX_INLINE_ITEM_BYTES < size <= _MOST_FORESEEN_BYTES and seconds < _MOST_FORESEEN_SECONDS:
            self._likely_room[number] = size
        else:
            self._likely_room.pop(number, None)

    def _run_pickle(self, name: str, item: Any) -> Any:
        if name.startswith("!"):
            return self._run_own(name, item)
        arguments, keywords = _unpickle(item)
        return names.find(name)(*arguments, **keywords)

    def _run_own(self, name: str, item: Any) -> Any:
        if name == "!call":
            function, arguments, keywords = _unpickle(item)
            return function(*arguments, **keywords)
        if name == "!process":
            self._run_process()
        kind, _, function_name = name.partition(" ")
        if kind != "!map":
            raise Refused("unknown_function", f"the runtime has no {name}")
        if function_name:
            elements, star = payload.decode_elements(item)
            function = names.find(function_name)
        else:
            function, elements, star = _unpickle(item)
        return self._map(function, elements, star)

    def _map(self, function: Callable[..., Any], elements: list[Any], star: bool) -> Any:
        self._map_failures.clear()
        began = time.perf_counter_ns()
        outcomes = self._page.map(function, elements, star, self._note_failure)
        return time.perf_counter_ns() - began, outcomes, self._map_failures.copy()

    def _run_process(self) -> NoReturn:
        """Is the process from here on, as multiprocessing's children are; but its standard input is the client's."""
        util._close_stdin = lambda: None  # type: ignore[attr-defined]
        target = self._process
        sentinel = setup.parent_sentinel(target._parent_pid)
        try:
            code = target._bootstrap(parent_sentinel=sentinel)
        finally:
            util._flush_std_streams()  # type: ignore[attr-defined]
        os._exit(code)

    def _run_value(self, name: str, frame: wire.Frame, session: int, item: Any) -> payload.Item:
        """A call with JSON, or with a number or array of them; its result becomes JSON."""
        if name.startswith("!"):
            raise Refused("bad_argument", f"{name} takes a pickle")
        try:
            function = names.find(name)
        except LookupError as error:
            raise Refused("unknown_function", str(error)) from None
        value: Any = item
        if frame.encoding in (wire.NONE, wire.AS_JSON, wire.AS_BYTES):
            view = self._view(session, False, item) if frame.flags & wire.IN_ARENA else item
            value = bytes(view)
            if frame.encoding == wire.AS_JSON:
                try:
                    value = json.loads(value)
                except ValueError as error:
                    raise Refused("bad_argument", f"the argument is not JSON: {error}") from None
        if frame.encoding == wire.NONE:
            result = function()
        elif isinstance(value, list) and parameters_of(function) != 1:
            result = function(*value)
        else:
            result = function(value)
        try:
            return payload.Item((json.dumps(result, allow_nan=False, separators=(",", ":")).encode(),))
        except (TypeError, ValueError, RecursionError) as error:
            raise Refused("not_encodable", f"the result, a {type(result).__name__}, is not JSON: {error}") from None

    # Outcomes

    def _add(self, data: bytes) -> None:
        try:
            self._page.add(self._channel, data)
        except OSError:
            self._lost()

    def _add_result(self, ticket: int, session: int, encoding: int, result: payload.Item, refs: list[str]) -> None:
        head = json.dumps({"refs": refs[:_MOST_REFS]}, separators=(",", ":")).encode() if refs else b""
        if result.size <= wire.MAX_INLINE_ITEM_BYTES:
            data = result.tobytes()
            if refs:  # alone, behind what it names
                self._add(wire.PREFIX.pack(len(data) + 4, len(head), wire.RUN_RESULTS, 0, ticket, 0, 1, encoding, 0)
                          + head + len(data).to_bytes(4, "little") + data)
                return
            try:
                self._page.add_result(self._channel, ticket, self._is_single, encoding, data)
            except OSError:
                self._lost()
            return
        reference = self._take_room(ticket, result.size)
        room = self._view(session, True, reference)
        result.write(room)
        body = wire.REFERENCE.pack(reference[0], reference[1], result.size)
        self._add(wire.PREFIX.pack(len(body), len(head), wire.RUN_RESULTS, wire.IN_ARENA, ticket, 0, 1, encoding, 0)
                  + head + body)

    def _want_room(self, ticket: int, size: int) -> None:
        self.flush()
        self._asked_for = ticket
        self.send(wire.encode(wire.WANT_ROOM, body=struct.pack("<Q", size), request=ticket, count=1))

    def _take_room(self, ticket: int, size: int) -> Sequence[int]:
        """Where the result goes. Raises Refused."""
        if self._asked_for == ticket:
            try:
                reference = self._await_room(ticket)
                if reference[2] >= size:
                    return reference
            except Refused:  # what was foreseen; this may be less
                pass
        self._want_room(ticket, size)
        return self._await_room(ticket)

    def _await_room(self, ticket: int) -> Sequence[int]:
        self._asked_for = -1
        while True:
            frame = self._stream.next()
            if frame is None:
                try:
                    self._stream.read()
                except (EOFError, OSError):
                    self._lost()
            elif frame.op == wire.ROOM:
                if frame.request != ticket:
                    continue  # the answer to a ticket that gave up
                reference = wire.references(frame.body)[0]
                if reference == (0, 0, 0):
                    refusal = frame.fields()
                    raise Refused(refusal.get("code", "out_of_space"), refusal.get("detail", "no room in the arena"))
                return reference
            elif not self._take_arena_frame(frame):
                self._kept.append(frame)

    def _add_failure(self, ticket: int, error: BaseException) -> None:
        head: dict[str, Any] = {"code": "task_failed", "detail": str(error), "type": type(error).__name__}
        if isinstance(error, Refused):
            head = {"code": error.code, "detail": str(error)}
        elif isinstance(error, TaskInterrupted):
            head["code"] = "cancelled"
        elif isinstance(error, SystemExit):
            head["detail"] = f"the task called sys.exit({'' if error.code is None else repr(error.code)})"
        elif isinstance(error, MaybeEncodingError):
            head = {"code": "not_encodable", "detail": error.value[:1000], "type": error.exc}
        head["detail"] = head["detail"][-_MOST_TRACEBACK:]
        if head["code"] == "task_failed":
            head["traceback"] = describe(error)[-_MOST_TRACEBACK:]
            if isinstance(error, Exception):
                pickled = base64.b64encode(_pickled_exception(error)).decode()
                if len(pickled) <= wire.MAX_EXCEPTION_BYTES:
                    head["exception"] = pickled
        try:
            data = wire.encode(wire.RUN_FAILED, head=head, request=ticket, count=1)
        except ValueError:  # characters that take many bytes in JSON
            head["detail"], head["traceback"] = head["detail"][:2000], head.get("traceback", "")[-2000:]
            data = wire.encode(wire.RUN_FAILED, head=head, request=ticket, count=1)
        self._add(data)


def _encode_result(value: Any) -> tuple[payload.Item, list[str]]:
    """A result, and the shared objects that it names: none before anybody here has used any."""
    store = sys.modules.get(__package__.rpartition(".")[0] + ".store")
    try:
        if store is None:
            return payload.encode(value), []
        with store.noting_ids() as ids:
            return payload.encode(value), ids
    except Exception as error:
        raise MaybeEncodingError(error, value) from None


def _unpickle(item: Any) -> Any:
    return payload.decode(item)


def describe(error: BaseException) -> str:
    """The traceback, without this package's frames at its start."""
    frames = error.__traceback__
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename.startswith(own):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _pickled_exception(error: Exception) -> bytes:
    """The exception as the client will see it; b"" if it does not survive a pickling and an unpickling."""
    try:
        data = payload.encode(error).tobytes()
        pickle.loads(data)
        return data
    except Exception:
        return b""


def _travelling(error: BaseException) -> Any:
    """The exception, or, if it cannot travel, what it was as text."""
    if isinstance(error, Exception) and _pickled_exception(error):
        return error
    from ..errors import RemoteError

    return RemoteError(f"{type(error).__name__}: {error}", type=type(error).__name__)


def parameters_of(function: Callable[..., Any]) -> int | None:
    """How many positional parameters the function has; None if it takes any number, or nobody knows."""
    import inspect  # large, and seldom needed

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


def _set_limits(fields: dict[str, Any]) -> None:
    """The cgroup first: what comes later counts there. Raises OSError or ValueError if a limit cannot be set."""
    if cgroup := fields.get("cgroup"):
        with open(f"{cgroup}/cgroup.procs", "w") as members:
            members.write("0")
    if nice := fields.get("nice"):
        os.nice(nice)
    for key, which in (("open_files", resource.RLIMIT_NOFILE), ("processes", resource.RLIMIT_NPROC),
                       ("data_bytes", resource.RLIMIT_DATA)):
        if most := fields.get(key):
            resource.setrlimit(which, (most, most))


def _settle(fields: dict[str, Any], is_prepared: bool) -> dict[str, str]:
    """What `fork` asks of the process; returns the environment that belongs to the worker."""
    _set_limits(fields)
    environment = setup.environment_of(fields)
    if not is_prepared:
        os.environ.update(environment)
    if token := fields.get("token"):
        environment["TASKPOOL_WORKER_TOKEN"] = os.environ["TASKPOOL_WORKER_TOKEN"] = token
    if cwd := fields.get("cwd"):
        os.chdir(cwd)
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(score, b"%d" % fields.get("oom_score_adj", 0))
        finally:
            os.close(score)
    except OSError:  # a worker that is not the first to be killed for memory is better than none
        pass
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # `random` has reseeded itself after the fork
        numpy.random.seed()
    return environment


def _initialize(worker: Worker, fields: dict[str, Any], setup_fd: int | None, found: setup.Setup | None) -> None:
    environment = _settle(fields, found is not None)
    name = f"PoolWorker-{fields['worker']}"
    process.current_process().name = name
    if setup_fd is not None:
        content = setup.read(setup_fd, environment, found)
        process.current_process().name = name
        if "process" in content:
            worker._process = content["process"]
        elif content["initializer"] is not None:
            content["initializer"](*content["initializer_arguments"])
    else:
        tracking.adopt(None)
    if initializer := fields.get("initializer"):
        names.find(initializer)(*fields.get("initializer_arguments", ()))


def run_worker(channel: socket.socket, shared: mmap.mmap, fields: dict[str, Any], setup_fd: int | None,
               listed: Sequence[str] = (), found: setup.Setup | None = None) -> int:
    """Runs tasks until the supervisor closes the channel. `found`: the setup, if the process is a fork of one that has imported the
    client's main module. Returns the process's exit code."""
    worker = Worker(channel, shared, fields.get("task_prefix", ""))
    worker.list_functions(listed)
    if found is None:  # else what is there is the main module's
        atexit._clear()
    try:
        _initialize(worker, fields, setup_fd, found)
    except BaseException as error:
        detail = f"{type(error).__name__}: {error}"[:2000]
        worker.send(wire.encode(wire.WORKER_FAILED, head={"detail": detail, "traceback": describe(error)[-10_000:]}))
        util._flush_std_streams()  # type: ignore[attr-defined]
        return 1
    worker.send(wire.encode(wire.WORKER_READY, head={"pid": os.getpid()}))
    try:
        worker.run()
    finally:
        worker._leave_if_copy()
    util._exit_function()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    util._flush_std_streams()  # type: ignore[attr-defined]
    return 0
