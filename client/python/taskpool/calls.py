"""Calls of a pool on the wire: prepared functions, items inline or in the arena, results of single calls."""

from __future__ import annotations

import json
from typing import Any, Callable

from . import names, payload, wire
from .arena import Region
from .client import ResultRefs, Session
from .errors import DaemonError, TimeoutError, UntrustedPickle, from_head
from .pending import Counter, Pending
from .stream import MORE_OF_A_BURST, NOT_SMALL

Callback = Callable[[Any], Any]


class Caller:
    """Sends calls to one pool of the daemon, with the same options."""

    def __init__(self, session: Session, pool: str, options: dict[str, Any]) -> None:
        self.session = session
        self.pool = pool
        self.options = options
        self.counter = Counter()
        #: Why the pool has no workers, once that is known; replaces what its calls end with.
        self.start_error: BaseException | None = None
        self._numbers: dict[str, int] = {}
        self._known: dict[Any, int] = {}  # the prepared numbers of functions that go by their names
        #: Whether what is pickled as it is can be unpickled by workers: classes of an interactive session cannot.
        self.may_know = payload.cloudpickle is None or names.main_module() is not None

    @property
    def outstanding(self) -> int:
        """Calls under way."""
        return self.counter.count

    def when_idle(self, call: Callable[[], None]) -> None:
        """Has `call` made whenever the last outstanding call has ended; also if there is none now."""
        self.counter.on_idle = lambda: self.session.call_later(call)
        if self.counter.count == 0:
            call()

    # What is called

    def head_of(self, function: str) -> dict[str, Any]:
        head = {"function": function, **self.options}
        if self.pool:
            head["pool"] = self.pool
        return head

    def target(self, function: str) -> tuple[int, dict[str, Any] | None]:
        """The prepared number of a function; or 0 and the head that says the same when there are no more numbers."""
        number = self._numbers.get(function)
        if number is None:
            number = take_number(self.session)
            if number == 0:
                return 0, self.head_of(function)
            request = self.session.new_request()
            self.session.post(wire.encode(wire.PREPARE, head=self.head_of(function), request=request, target=number))
            self._numbers[function] = number
        return number, None

    def forget_all(self) -> None:
        """Frees the prepared numbers."""
        numbers, self._numbers, self._known = self._numbers, {}, {}
        for number in numbers.values():
            self.session.post(wire.encode(wire.FORGET, target=number))
            give_number(self.session, number)

    def encode_call(self, function: Any, arguments: Any, keywords: Any) -> tuple[str, int, payload.Item]:
        """Function name, encoding and item of a call. A function given as text is a native one of the daemon's."""
        if isinstance(function, str):
            return function, wire.AS_JSON, encode_json_call(arguments, keywords)
        name = names.name_of(function)
        if name is not None:
            return name, wire.AS_PICKLE, payload.encode((tuple(arguments), dict(keywords) if keywords else {}))
        return "!call", wire.AS_PICKLE, payload.encode((function, tuple(arguments), dict(keywords) if keywords else {}))

    # What is sent

    def submit(self, function: Any, arguments: Any, keywords: Any) -> AsyncResult:
        """Queues a call and returns its result."""
        session = self.session
        try:
            number = self._known.get(function)
        except TypeError:  # not hashable
            number = None
        if number is not None:
            result = AsyncResult(self)
            request = result._request = session.new_request()
            advice = session.stream.submit(session.handlers, result, request, number, tuple(arguments), dict(keywords))
            if advice != NOT_SMALL:
                if session.is_broken:
                    session.lose(request)
                result._advice = advice
                return result
        result = AsyncResult(self)
        self._submit_any(result, function, arguments, keywords)
        return result

    def submit_told(self, function: Any, arguments: Any, keywords: Any, callback: Callback | None,
                    error_callback: Callback | None) -> AsyncResult:
        """The same, for one whose callback is to be called."""
        result = AsyncResult(self, callback, error_callback)
        self._submit_any(result, function, arguments, keywords)
        return result

    def _submit_any(self, result: AsyncResult, function: Any, arguments: Any, keywords: Any) -> None:
        try:
            name, encoding, item = self.encode_call(function, arguments, keywords)
        except Exception as error:  # it is reported where the result is asked for, as multiprocessing does
            result.fail(error)
            return
        send_single(self, result, name, encoding, item)
        if encoding == wire.AS_PICKLE and not name.startswith("!") and self.may_know and (number := self._numbers.get(name)):
            self._known[function] = number

    def place(self, item: payload.Item) -> tuple[int, bytes, Region | None]:
        """Flags and body that bring an item over, and the region of the arena that it takes. Waits for others to give theirs
        back if there is no room. Raises DaemonError `out_of_space`."""
        if item.size <= wire.MAX_INLINE_ITEM_BYTES:
            return 0, item.tobytes(), None
        while True:
            released = self.session.up_released
            try:
                region, memory = self.session.up.allocate(item.size)
                break
            except DaemonError as error:
                if error.code != "out_of_space" or not self.outstanding:
                    raise
            self.session.wait(lambda: self.session.up_released != released or not self.outstanding)
        item.write(memory)
        return wire.IN_ARENA, wire.REFERENCE.pack(*region), region

    def error_of(self, head: dict[str, Any]) -> BaseException:
        """The exception that an `error` or `failed` head tells of."""
        if self.start_error is not None and head.get("code") in ("cancelled", "start_failed", "unknown_pool", "pool_closed"):
            return self.start_error
        return from_head(head, self.session.is_trusted)


def take_number(session: Session) -> int:
    """A free number for a prepared call; 0 if there is none."""
    free = session.free_numbers
    try:
        return free.popleft()  # the one that has been free for longest: who has looked it up before may still be about to use it
    except IndexError:
        return 0


def give_number(session: Session, number: int) -> None:
    session.free_numbers.append(number)


def encode_json_call(arguments: Any, keywords: Any) -> payload.Item:
    """The item of a native call: the one argument itself, else the list of them."""
    if keywords:
        raise TypeError("a native function takes no keyword arguments")
    if not isinstance(arguments, (tuple, list)):
        value = arguments
    else:
        value = arguments[0] if len(arguments) == 1 else list(arguments)
    return encode_json(value)


def encode_json(value: Any) -> payload.Item:
    return payload.Item((json.dumps(value, allow_nan=False, separators=(",", ":")).encode(),))


def decode_item(session: Session, encoding: int, item: Any) -> Any:
    """The value of a result. Raises what its unpickling raises, and UntrustedPickle."""
    if encoding == wire.AS_PICKLE:
        if not session.is_trusted:
            raise UntrustedPickle("the daemon runs as another user: a pickle of it would run that user's code")
        return payload.decode(item)
    if encoding == wire.AS_JSON:
        return json.loads(bytes(item))
    if encoding in wire.NUMBERS:
        import array

        values: array.array[Any] = array.array(wire.NUMBERS[encoding])
        values.frombytes(item)
        return values
    return None if encoding == wire.NONE else bytes(item)


class AsyncResult(Pending):  # type: ignore[misc]
    """The result of one call that may not have ended yet."""

    _callback: Callback | None = None
    _error_callback: Callback | None = None
    _region: Region | None = None
    _refs: ResultRefs | None = None
    _request = 0
    _advice = MORE_OF_A_BURST
    _body: bytes | None

    def __init__(self, caller: Caller, callback: Callback | None = None, error_callback: Callback | None = None) -> None:
        self._caller = caller
        self._session = caller.session
        self._count_in(caller.counter)
        if callback is not None or error_callback is not None:
            self._callback = callback
            self._error_callback = error_callback

    # multiprocessing's interface

    def ready(self) -> bool:
        """Return whether the call has completed."""
        if not self._done:
            self._session.peek()
        return self._done

    def successful(self) -> bool:
        """Return whether the call completed without raising an exception."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._decode()
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is available or until timeout seconds pass."""
        if not self._done:
            self._session.wait(self._is_done, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives. Raises TimeoutError after `timeout` seconds, and what the call raised."""
        if not self._done:
            self.wait(timeout)
            if not self._done:
                raise TimeoutError
        if self._body is not None:
            self._decode()
        if self._error is not None:
            raise self._error
        return self._value

    def sent(self) -> AsyncResult:
        """Itself, after seeing to it that it is on its way while nobody waits for it."""
        self._session.follow(self._advice)
        return self

    def cancel(self, force: bool = False) -> None:
        """Asks for the call to be stopped, running or not; get() then raises Cancelled, unless it had ended."""
        send_cancel(self._session, self._request, force=force)

    def cancel_waiting(self) -> bool:
        """True if that kept the call from being run: it had not begun, and get() raises Cancelled. False if it has begun, or ended."""
        return not self._done and bool(self._session.ask(wire.CANCEL, {"request": self._request, "waiting": True})["cancelled"])

    # What the session calls

    def _is_done(self) -> bool:
        return self._done

    def start(self, request: int, region: Region | None) -> None:
        self._request = request
        self._region = region
        self._begin()
        self._session.expect(request, self)

    def fail(self, error: BaseException) -> None:
        """It cannot be sent."""
        self._begin()
        self._error = error
        self._end()

    def _begin(self) -> None:
        self._counter.began()
        if self._callback is not None or self._error_callback is not None:
            self._session.add_background()

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.RESULT:
            self._body, self._encoding, self._flags = frame.body, frame.encoding, frame.flags
            if frame.head:
                self._refs = ResultRefs(self._session, frame._replace(body=b""))
            if frame.flags & wire.IN_ARENA:  # copied at once: the arena is small
                self._decode()
        elif frame.op == wire.ERROR:
            self._error = self._caller.error_of(frame.fields())
        else:  # `ok` of what is detached, or `progress`
            return False
        self._end()
        return True

    def on_lost(self, error: DaemonError) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        if self._region is not None:
            self._session.release_up(self._region)
            self._region = None
        self._counter.ended()
        if self._callback is None and self._error_callback is None:
            self._done = True
        else:
            self._session.call_later(self._run_callbacks)

    def _run_callbacks(self) -> None:
        try:
            self._decode()
            if self._error is not None:
                if self._error_callback is not None:
                    self._error_callback(self._error)
            elif self._callback is not None:
                self._callback(self._value)
        finally:
            self._done = True
            self._session.remove_background()

    def _decode(self) -> None:
        self._make_value()
        self._refs = None  # what the value names it has open

    def _make_value(self) -> None:
        if self._session.is_trusted and self._settle():
            return
        body = self._body
        if body is None:
            return
        is_in_arena = self._flags & wire.IN_ARENA
        if is_in_arena:
            self._body = None  # its memory is given back below
        try:
            item: Any = self._session.down.view(wire.references(body)[0]) if is_in_arena else body
            self._value = decode_item(self._session, self._encoding, item)
        except (Exception, SystemExit) as error:  # not one that ends the thread, which reads for others
            self._error = error
        finally:
            if is_in_arena:
                self._session.release(body)
        self._body = None  # last: another thread may look meanwhile, and an interrupt makes this go unfinished


ApplyResult = AsyncResult


def send_cancel(session: Session, request: int, **how: bool) -> None:
    """Asks for what `request` submitted to be stopped; what comes of that is its own outcome's matter. `how`: fields of `cancel`."""
    session.send(wire.encode(wire.CANCEL, head={"request": request, **how}, request=session.new_request()))


def send_single(caller: Caller, result: AsyncResult, function: str, encoding: int, item: payload.Item) -> None:
    """Submits one call, whose outcome `result` gets."""
    flags, body, region = caller.place(item)  # may wait, while the function's number may be given to another one
    target, head = caller.target(function)
    request = caller.session.new_request()
    result.start(request, region)
    caller.session.send(wire.encode(wire.APPLY, head=head, body=body, flags=flags, request=request, target=target, count=1,
                                    encoding=encoding))


__all__ = ["ApplyResult", "AsyncResult", "Caller", "decode_item", "send_cancel", "send_single"]
