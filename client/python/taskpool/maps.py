"""Maps: many elements sent in chunks, results placed where they belong."""

from __future__ import annotations

import bisect
import collections
import struct
import threading
from typing import Any, Sequence

from . import names, payload, wire
from .arena import Region
from .calls import Callback, Caller, decode_item, encode_json, send_cancel
from .errors import Cancelled, DaemonError, TimeoutError

try:
    from . import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

#: How long a chunk of adaptive size should run. Long beside the cost of a chunk, short beside what people notice; and what a
#: worker's death makes run again.
_TARGET_NS = 2_000_000
#: Elements of a chunk before anything is known of them, at most.
_FIRST_CHUNK = 16
_MOST_ELEMENTS = 1 << 16
#: A chunk's bytes, so that it travels inside a frame.
_CHUNK_BYTES = 48 * 1024
#: What may be under way of one job: bytes, and items of it beyond a few for each worker.
_WINDOW_BYTES = 4 << 20
_WINDOW_ITEMS = 4096
#: Items that are packed at once, at most.
_RUN_ITEMS = 1024
_SPLIT_AGAIN = frozenset({"worker_lost", "out_of_memory", "timed_out"})


class Chunk:
    """Consecutive elements under way as one item."""

    __slots__ = ("start", "elements", "size", "region")

    def __init__(self, start: int, elements: list[Any]) -> None:
        self.start = start
        self.elements = elements
        self.size = 0
        self.region: Region | None = None


class Run:
    """Consecutive chunks of the same size, under way as consecutive items of one frame: a chunk is made of one when something has
    to be done about it."""

    __slots__ = ("first", "count", "start", "chunksize", "bytes", "ended", "left")

    def __init__(self, first: int, count: int, start: int, chunksize: int, size: int) -> None:
        self.first = first
        self.count = count
        self.start = start
        self.chunksize = chunksize
        self.bytes = size
        self.ended = bytearray(count)  # 1 for each item that has ended
        self.left = count

    def start_of(self, index: int) -> int:
        return self.start + (index - self.first) * self.chunksize

    def end(self, first: int, count: int) -> int:
        """So many items have ended; returns about how many bytes they had."""
        self.ended[first - self.first:first - self.first + count] = b"\1" * count
        self.left -= count
        return self.bytes * count // self.count


class Job:
    """One map on the wire. Subclasses say what comes next, and take the outcomes."""

    def __init__(self, caller: Caller, function: Any, star: bool, workers: int) -> None:
        self._caller = caller
        self._session = caller.session
        self._workers = workers
        self._star = star
        self._is_native = isinstance(function, str)
        self._function = function
        self._name: str
        if self._is_native:
            self._name = function
        else:
            name = names.name_of(function)
            self._name = "!map" if name is None else f"!map {name}"
        self._under_way: dict[int, Chunk] = {}
        self._runs: list[Run] = []  # by their first items
        self._items_under_way = 0
        self._again: collections.deque[Chunk] = collections.deque()
        self._bytes = 0
        self._items = 0
        self._request = 0
        self._is_over = False  # nothing more is sent
        self._error_of_rest: BaseException  # that it was given up with
        self._feed_lock = threading.Lock()
        self._feed_wanted = False
        self._feed_queued = False
        self._held: list[Region] = []  # of chunks that were given up while they may still run
        self._element_ns = 0.0
        self._element_bytes = 0.0
        self._result_bytes = 0.0

    # For subclasses

    def _next_chunk(self) -> Chunk | None:
        """What is to be sent next, or None for now or for ever."""
        raise NotImplementedError

    def _has_all(self) -> bool:
        """True when every element has its outcome."""
        raise NotImplementedError

    def _take(self, start: int, outcomes: Sequence[Any], failures: dict[int, BaseException]) -> None:
        """Outcomes of consecutive elements; those in `failures`, by their place in `outcomes`, raised."""
        raise NotImplementedError

    def _end(self) -> None:
        """Every element has its outcome, or will get none."""
        raise NotImplementedError

    def chunk_elements(self, left: int) -> int:
        """How many elements a chunk of adaptive size gets."""
        share = -(-left // (4 * self._workers))
        if not self._element_ns:
            return max(1, min(share, _FIRST_CHUNK))
        size = max(self._element_bytes, self._result_bytes, 1.0)
        fit = min(_TARGET_NS / self._element_ns, _CHUNK_BYTES / size, _MOST_ELEMENTS)
        return max(1, min(int(fit), -(-left // (2 * self._workers))))

    # Sending

    def window_is_full(self) -> bool:
        if self._bytes >= _WINDOW_BYTES:
            return True
        return self._items_under_way >= self._window()

    def _window(self) -> int:
        return _WINDOW_ITEMS

    def feed(self) -> None:
        """Sends what may be under way. What cannot be sent fails by itself."""
        self._feed_wanted = True
        while self._feed_wanted and not self._is_over:
            if not self._feed_lock.acquire(blocking=False):
                return  # whoever holds it looks again
            try:
                self._feed_wanted = False
                self._feed()
            finally:
                self._feed_lock.release()

    def _feed(self) -> None:
        bodies: list[bytes] = []
        size = 0
        while not self._is_over and not self.window_is_full():
            if not self._again and not bodies and self._send_run():
                continue
            chunk = self._again.popleft() if self._again else self._next_chunk()
            if chunk is None:
                break
            item = self._encode(chunk)
            if item is None:
                continue
            if item.size > wire.MAX_INLINE_ITEM_BYTES:
                self._send(bodies)
                bodies, size = [], 0
                self._send_large(chunk, item)
                continue
            self._register(chunk, item.size)
            bodies.append(item.tobytes())
            size += item.size
            if size >= wire.PACK_BYTES:
                self._send(bodies)
                bodies, size = [], 0
        self._send(bodies)
        self._finish_if_over()

    def _send_run(self) -> bool:
        """Sends many small chunks at once, if they are such; false if there was nothing for it to do."""
        return False

    def _send_large(self, chunk: Chunk, item: payload.Item) -> None:
        try:
            flags, body, chunk.region = self._caller.place(item)
        except DaemonError as error:
            count = len(chunk.elements)
            self._take(chunk.start, [None] * count, {i: error for i in range(count)})
            return
        self._register(chunk, item.size)
        self._send_frame(body, flags, 1)

    def _register(self, chunk: Chunk, size: int) -> None:
        """The chunk is the next item of the job on the wire."""
        chunk.size = size
        self._bytes += size
        index = self._items
        self._under_way[index] = chunk
        self._items += 1
        self._items_under_way += 1
        # Another thread may have given the job up while the chunk was neither here nor there.
        if self._is_over and self._under_way.pop(index, None) is not None:
            self._give_up(chunk)

    def _encode(self, chunk: Chunk) -> payload.Item | None:
        try:
            if self._is_native:
                return encode_json(chunk.elements[0])
            item: payload.Item | None
            if self._name == "!map":
                item = payload.encode((self._function, chunk.elements, self._star))
            elif self._star or (item := payload.encode_numbers(chunk.elements)) is None:
                item = payload.encode((chunk.elements, self._star))
            self._element_bytes = item.size / len(chunk.elements)
            return item
        except Exception as error:
            if len(chunk.elements) > 1:  # only those that cannot be sent fail
                self._again.extendleft(reversed(_singles(chunk)))
            else:
                self._take(chunk.start, [None], {0: error})
            return None

    def _send(self, bodies: list[bytes]) -> None:
        if bodies:
            self._send_frame(wire.pack(bodies), 0, len(bodies))

    def _send_frame(self, body: bytes, flags: int, count: int) -> None:
        encoding = wire.AS_JSON if self._is_native else wire.AS_PICKLE
        if self._request:
            data = wire.encode(wire.INPUT, body=body, flags=flags, request=self._request, count=count, encoding=encoding)
        else:
            target, head = self._caller.target(self._name)
            self._request = self._session.new_request()
            self._caller.counter.began()
            self._session.expect(self._request, self)
            data = wire.encode(wire.MAP, head=head, body=body, flags=flags, request=self._request, target=target,
                               count=count, encoding=encoding)
        self._session.send(data)

    # Receiving

    def on_frame(self, frame: wire.Frame) -> bool:
        if self._is_over and frame.op in (wire.RESULTS, wire.FAILED):  # it was given up
            if frame.flags & wire.IN_ARENA:
                self._session.release(frame.body)
            if frame.op == wire.RESULTS:
                self._session.release_refs(frame)
            return False
        if frame.op in (wire.RESULTS, wire.FAILED):
            try:
                self._on_outcomes(frame)
            except (KeyError, ValueError):  # items that are not under way
                if not self._is_over:
                    raise
                # Another thread gave it up meanwhile.
        elif frame.op == wire.DONE:
            self._fail_rest(Cancelled("the job was ended"))
            self._has_ended()
            return True
        elif frame.op == wire.ERROR:
            self._fail_rest(self._caller.error_of(frame.fields()))
            self._has_ended()
            return True
        else:
            return False
        self._queue_feed()
        return False

    def on_lost(self, error: DaemonError) -> None:
        self._fail_rest(error)
        self._has_ended()

    def _has_ended(self) -> None:
        """The daemon is done with it: its memory may be used again."""
        for region in self._held:
            self._session.release_up(region)
        self._held.clear()
        self._caller.counter.ended()

    def _queue_feed(self) -> None:
        if not self._feed_queued and not self._is_over:
            self._feed_queued = True
            self._session.call_later(self._feed_later)

    def _feed_later(self) -> None:
        self._feed_queued = False
        self.feed()

    def _drop(self, index: int) -> Chunk:
        """The item has ended; its chunk."""
        self._items_under_way -= 1
        chunk = self._under_way.pop(index, None)
        if chunk is None:
            run = self._run_of(index)
            self._end_items(run, index, 1)
            return self._chunk_of(run, index)
        self._bytes -= chunk.size
        if chunk.region is not None:
            self._session.release_up(chunk.region)
        return chunk

    def _run_of(self, index: int) -> Run:
        """The run that has this item. Raises KeyError if it has ended, or is none of this job's."""
        at = bisect.bisect(self._runs, index, key=lambda run: run.first) - 1
        if at >= 0:
            run = self._runs[at]
            if index < run.first + run.count and not run.ended[index - run.first]:
                return run
        raise KeyError(index)

    def _end_items(self, run: Run, first: int, count: int) -> None:
        self._bytes -= run.end(first, count)
        if not run.left:
            self._runs.remove(run)

    def _chunk_of(self, run: Run, index: int) -> Chunk:
        raise NotImplementedError

    def _on_outcomes(self, frame: wire.Frame) -> None:
        if frame.op == wire.FAILED:
            head = frame.fields()
            for index in range(frame.target, frame.target + frame.count):
                self._on_failed(self._drop(index), head)
            return
        try:
            self._on_results(frame)
        finally:
            if frame.flags & wire.IN_ARENA:
                self._session.release(frame.body)
            self._session.release_refs(frame)  # what the values name they have open

    def _on_results(self, frame: wire.Frame) -> None:
        items: Sequence[Any]
        at = self._take_run(frame)
        if at == frame.count:
            return
        if frame.encoding in wire.NUMBERS and not frame.flags & wire.IN_ARENA:
            for offset, value in enumerate(struct.unpack(f"<{frame.count}{wire.NUMBERS[frame.encoding]}", frame.body)):
                self._take(self._drop(frame.target + offset).start, [value], {})
            return
        if frame.flags & wire.IN_ARENA:
            items = [self._session.down.view(reference) for reference in wire.references(frame.body)]
        else:
            items = wire.unpack(frame.count, frame.body)
        for offset in range(at, frame.count):
            item = items[offset]
            chunk = self._drop(frame.target + offset)
            try:
                value = self._decode(frame.encoding, item)
            except (Exception, SystemExit) as error:
                self._take(chunk.start, [None] * len(chunk.elements), {i: error for i in range(len(chunk.elements))})
                continue
            if self._is_native:
                self._take(chunk.start, [value], {})
                continue
            elapsed, outcomes, failures = value
            self._learn(elapsed, len(outcomes), len(item))
            self._take(chunk.start, outcomes, {i: _raised(*failure) for i, failure in failures.items()} if failures else {})

    def _decode(self, encoding: int, item: Any) -> Any:
        if encoding == wire.AS_PICKLE and not self._is_native and self._session.is_trusted:
            return payload.decode_outcomes(item)
        return decode_item(self._session, encoding, item)

    def _take_run(self, frame: wire.Frame) -> int:
        """Takes the results of a run's items, as far as they are plain; how many that are."""
        return 0

    def _learn(self, elapsed: int, elements: int, result_bytes: int) -> None:
        """So many elements ran so long, and have results of so many bytes."""
        per_element = max(elapsed / elements, 1.0)
        self._element_ns = (self._element_ns + per_element) / 2 if self._element_ns else per_element
        self._result_bytes = result_bytes / elements

    def _on_failed(self, chunk: Chunk, head: dict[str, Any]) -> None:
        code = head.get("code")
        count = len(chunk.elements)
        if count > 1 and code in _SPLIT_AGAIN:
            # One element ended its worker. What was done of the others went with it: they run again.
            fatal = min(int(head.get("position", 0)), count - 1)
            self._take(chunk.start + fatal, [None], {0: self._caller.error_of(head)})
            if fatal + 1 < count:
                self._again.appendleft(Chunk(chunk.start + fatal + 1, chunk.elements[fatal + 1:]))
            if fatal:
                self._again.appendleft(Chunk(chunk.start, chunk.elements[:fatal]))
        elif count > 1 and code == "task_failed":  # it could not be unpickled, so nothing of it has run
            self._again.extendleft(reversed(_singles(chunk)))
        else:
            error = self._caller.error_of(head)
            self._take(chunk.start, [None] * count, {i: error for i in range(count)})

    # The end

    def _finish_if_over(self) -> None:
        if self._is_over or not self._has_all():
            return
        self._is_over = True
        if self._request:  # `done` comes whenever somebody reads again: the results must not wait for that to be let go of
            self._session.expect(self._request, _Remainder(self._caller.counter))
        self._send_last()
        self._end()

    def _send_last(self) -> None:
        if self._request:
            encoding = wire.AS_JSON if self._is_native else wire.AS_PICKLE
            self._session.post(wire.encode(wire.INPUT, flags=wire.LAST, request=self._request, encoding=encoding))

    def _fail_rest(self, error: BaseException) -> None:
        """No outcome comes any more."""
        if self._is_over:
            return
        self._error_of_rest = error
        self._is_over = True
        of_runs = [self._chunk_of(run, run.first + i) for run in self._runs for i in range(run.count) if not run.ended[i]]
        self._runs.clear()
        while self._under_way:  # one by one: a thread that sends one just now sees whether this was in time for it
            self._give_up(self._under_way.popitem()[1])
        for chunk in [*self._again, *of_runs]:
            self._give_up(chunk)
        self._again.clear()
        self._rest_failed(error)
        self._end()

    def _give_up(self, chunk: Chunk) -> None:
        self._take(chunk.start, [None] * len(chunk.elements), {i: self._error_of_rest for i in range(len(chunk.elements))})
        if chunk.region is not None:
            self._held.append(chunk.region)

    def _rest_failed(self, error: BaseException) -> None:
        """What was never sent fails too."""

    def abort(self, error: BaseException) -> None:
        """Nothing more is sent or expected of it."""
        self._session.call_later(lambda: self._abort(error))

    def _abort(self, error: BaseException) -> None:
        if not self._is_over:
            self._fail_rest(error)
            self._send_last()


class _Remainder:
    """Hears the end of a job that has all its outcomes."""

    def __init__(self, counter: Any) -> None:
        self._counter = counter

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op not in (wire.DONE, wire.ERROR):
            return False
        self._counter.ended()
        return True

    def on_lost(self, _: DaemonError) -> None:
        self._counter.ended()


def _singles(chunk: Chunk) -> list[Chunk]:
    return [Chunk(chunk.start + i, [element]) for i, element in enumerate(chunk.elements)]


def _raised(exception: BaseException, traceback: str) -> BaseException:
    from .errors import with_traceback

    return with_traceback(exception, traceback)


class MapResult(Job):
    """The result of a map that may not have ended yet."""

    def __init__(self, caller: Caller, function: Any, elements: list[Any], star: bool, workers: int, chunksize: int | None,
                 callback: Callback | None, error_callback: Callback | None, progress: Any = None) -> None:
        super().__init__(caller, function, star, workers)
        self._elements = elements
        self._chunksize = 1 if self._is_native else chunksize
        self._next = 0
        self._outcomes: list[Any] = [None] * len(elements)
        self._failures: dict[int, BaseException] = {}
        self._settled = bytearray(len(elements))  # 1 for each element with an outcome
        self._left = len(elements)
        self._done = not elements
        self._callback = callback
        self._error_callback = error_callback
        self._progress = progress
        self._in_background = False

    def start(self, background: bool) -> None:
        """Begins. `background`: goes on even while nobody waits."""
        if self._done:
            self._is_over = True
            return
        if background:
            self._in_background = True
            self._session.add_background()
        self.feed()

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
        return not self._failures

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is available or until timeout seconds pass."""
        if not self._done:
            self._session.wait(self._is_done, timeout)

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return the results in order. Raises TimeoutError after `timeout` seconds, and what the first element that failed
        raised; its attribute `results` has what the others returned."""
        self.wait(timeout)
        if not self._done:
            raise TimeoutError
        if self._failures:
            raise self._first_error()
        return self._outcomes

    def outcomes(self, timeout: float | None = None) -> list[Any]:
        """Return what each element returned, or the exception that it raised."""
        self.wait(timeout)
        if not self._done:
            raise TimeoutError
        return self._all_outcomes()

    def cancel(self, force: bool = False, waiting: bool = False) -> None:
        """Asks for what has not ended to be stopped; its outcome is then Cancelled. With `waiting`, what runs goes on, but nobody hears
        what comes of it."""
        self.abort(Cancelled("the map was cancelled"))
        if self._request:
            send_cancel(self._session, self._request, force=force, waiting=waiting)

    def wait_for(self, index: int, timeout: float | None = None) -> bool:
        """Waits for one element's outcome; False after `timeout` seconds."""
        return self._session.wait(lambda: bool(self._settled[index]) or self._done, timeout)

    def outcome(self, index: int) -> Any:
        """What that element returned; raises what it raised."""
        if index in self._failures:
            raise self._failures[index]
        return self._outcomes[index]

    def take_outcome(self, index: int) -> Any:
        """The same; nobody asks for it again."""
        value = self.outcome(index)
        self._outcomes[index] = None
        return value

    def _all_outcomes(self) -> list[Any]:
        return [self._failures.get(i, value) for i, value in enumerate(self._outcomes)]

    def _first_error(self) -> BaseException:
        error = self._failures[min(self._failures)]
        try:
            error.results = self._all_outcomes()  # type: ignore[attr-defined]
        except AttributeError:  # an exception with slots
            pass
        return error

    # What the job asks

    def _is_done(self) -> bool:
        return self._done

    def _window(self) -> int:
        return _WINDOW_ITEMS if self._chunksize is not None else 3 * self._workers + 1

    def _next_chunk(self) -> Chunk | None:
        start = self._next
        if start >= len(self._elements):
            return None
        count = self._chunksize or self.chunk_elements(len(self._elements) - start)
        self._next = start + count
        return Chunk(start, self._elements[start:start + count])

    def _send_run(self) -> bool:
        start = self._next
        if _native is None or self._chunksize is None or self._is_native or self._name == "!map" or not self._caller.may_know:
            return False
        items = min(self._window() - self._items_under_way, _RUN_ITEMS)
        body, count, size = _native.pack_chunks(self._elements, start, self._chunksize, self._star, items, wire.PACK_BYTES)
        if not count:
            return False
        self._runs.append(Run(self._items, count, start, self._chunksize, size))
        self._next = min(start + count * self._chunksize, len(self._elements))
        self._bytes += size
        self._items += count
        self._items_under_way += count
        self._send_frame(body, 0, count)
        return True

    def _take_run(self, frame: wire.Frame) -> int:
        if not self._runs or frame.encoding != wire.AS_PICKLE or frame.flags or not self._session.is_trusted:
            return 0
        first, count = frame.target, frame.count
        if first in self._under_way:
            return 0
        run = self._run_of(first)
        start = run.start_of(first)
        if first + count > run.first + run.count or any(run.ended[first - run.first:first - run.first + count]):
            return 0
        done, end, elapsed = _native.unpack_outcomes(frame.body, count, self._outcomes, start, run.chunksize)
        if done:
            self._end_items(run, first, done)
            self._items_under_way -= done
            self._settled[start:end] = b"\1" * (end - start)
            self._learn(elapsed, end - start, len(frame.body) * done // count)
            self._took(end - start)
        return done

    def _chunk_of(self, run: Run, index: int) -> Chunk:
        start = run.start_of(index)
        return Chunk(start, self._elements[start:start + run.chunksize])

    def _has_all(self) -> bool:
        return self._left == 0

    def _take(self, start: int, outcomes: Sequence[Any], failures: dict[int, BaseException]) -> None:
        count = len(outcomes)
        self._outcomes[start:start + count] = outcomes
        self._settled[start:start + count] = b"\1" * count
        for position, error in failures.items():
            self._failures[start + position] = error
        self._took(count)

    def _took(self, count: int) -> None:
        self._left -= count
        if self._progress is not None:
            self._session.call_later(lambda: self._progress.update(len(self._outcomes) - self._left))

    def _rest_failed(self, error: BaseException) -> None:
        for index in range(self._next, len(self._elements)):
            self._failures[index] = error
        self._left = 0

    def _end(self) -> None:
        self._elements = []
        self._session.call_later(self._tell)

    def _tell(self) -> None:
        try:
            if self._progress is not None:
                self._progress.close()
            if self._failures:
                if self._error_callback is not None:
                    self._error_callback(self._first_error())
            elif self._callback is not None:
                self._callback(self._outcomes)
        finally:
            self._done = True
            if self._in_background:
                self._session.remove_background()
