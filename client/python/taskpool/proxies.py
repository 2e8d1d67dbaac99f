"""Proxies of shared objects that hold something: dicts, lists, arrays, namespaces, values and queues."""

from __future__ import annotations

import array
import queue
from multiprocessing.managers import Namespace
from typing import Any, Callable, Iterable, Iterator

from . import store
from .errors import DaemonError
from .mapping import AskDaemon
from .store import Argument, Opened, integer, key
from .watching import Watch

#: Operations and bytes of one request of an update.
_BATCH, _BATCH_BYTES = 200, 64 * 1024
FOREVER = -1
_TRIES = 16
_ABSENT = object()


def milliseconds(timeout: float | None) -> int:
    """A timeout as operations have it."""
    return FOREVER if timeout is None else max(0, int(timeout * 1000 + 0.999))


class StoreProxy:
    """A shared object: the same in every process that has it. Pickles as a reference; anonymous objects live as long as
    anybody has them."""

    _type = ""
    _typeid = ""
    #: Reads the object where it lies in shared memory; raises AskDaemon where that does not tell.
    _reader: Any

    def __init__(self, fields: dict[str, Any] | None = None, initial: Argument | None = None, nested: bool = False) -> None:
        self.__dict__["_nested"] = nested
        self._adopt(store.open_object({"type": self._type, **(fields or {})}, initial))

    def _adopt(self, opened: Opened) -> Opened:
        self.__dict__["_object"] = opened
        self.__dict__["_reader"] = opened.reader
        return opened

    @property
    def _opened(self) -> Opened:
        opened: Opened = self.__dict__["_object"]
        if opened.session.is_broken:  # after a fork, or with another daemon: the object may live on
            opened = self._adopt(store.open_object({"object": opened.id}))
        return opened

    def _one(self, code: int, *arguments: Argument) -> list[Any]:
        return self._opened.one(code, *arguments)

    def _do(self, code: int, kinds: str, *arguments: Any) -> list[Any]:
        """Does one operation on a key (k), values (v) and integers (i), and returns its values."""
        opened = self._opened
        body = store.pack(code, opened.number, kinds, *arguments)
        if body is not None:
            return opened.run_packed(1, body)[0]
        return opened.one(code, *[self._argument(kind, value) for kind, value in zip(kinds, arguments)])

    def _change_by(self, code: int, kinds: str, *arguments: Any) -> None:
        """The same for an operation that returns nothing."""
        opened: Opened = self.__dict__["_object"]
        if opened.session.is_broken:
            opened = self._opened
        body = store.pack(code, opened.number, kinds, *arguments)
        if body is not None:
            store.Request(opened, 1, body).finish()
        else:
            self._do(code, kinds, *arguments)

    def _argument(self, kind: str, value: Any) -> Argument:
        return key(value) if kind == "k" else self._value(value) if kind == "v" else integer(value)

    def _whole(self, read: str) -> Any:
        """What that method of the reader returns about all of the object, of one moment. Raises AskDaemon."""
        try:
            return getattr(self._reader, read)()
        except AskDaemon as why:
            if str(why) != "too_busy":
                raise
        self._one(store.HOLD, integer(FOREVER))
        try:
            return getattr(self._reader, read)()
        finally:
            self._one(store.UNHOLD)

    def _length(self) -> int:
        try:
            return int(self._reader.length())
        except AskDaemon:
            return int(self._one(store.LEN)[0])

    def _value(self, value: Any) -> Argument:
        """A value to be stored; with `nested`, plain lists and dicts become shared ones."""
        if self.__dict__["_nested"]:
            if type(value) is dict:
                value = DictProxy(nested=True)._filled(value)
            elif type(value) is list:
                value = ListProxy(nested=True)._filled(value)
        return _Held(store.value(value), value)

    def _watch(self) -> Watch:
        """Changes of the object from now on, as they come."""
        return Watch(self._opened, None)

    def _getvalue(self) -> Any:
        """A copy of what the object holds."""
        raise NotImplementedError

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: dict[str, Any] = {}) -> Any:
        """Calls a method by its name, as multiprocessing's proxies do."""
        if methodname.startswith("_") and not methodname.startswith("__"):
            raise AttributeError(methodname)
        return getattr(self, methodname)(*args, **kwds)

    def __reduce__(self) -> Any:
        opened = self._opened
        store.name_object(opened.place, opened.id)
        return _rebuild, (type(self), opened.id, self.__dict__["_nested"], self._state())

    def _state(self) -> Any:
        return None

    def _set_state(self, state: Any) -> None:
        pass

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return repr(self._getvalue())


class _Held(Argument):
    """An argument with the objects that it refers to, which live at least as long."""

    __slots__ = ("held",)

    def __init__(self, argument: Argument, held: Any) -> None:
        super().__init__(argument.encoding, argument.item, argument.refs)
        self.held = held


def _rebuild(kind: type[StoreProxy], object_id: str, nested: bool, state: Any) -> StoreProxy:
    proxy = kind.__new__(kind)
    proxy.__dict__["_nested"] = nested
    proxy._adopt(store.open_object({"object": object_id}))
    proxy._set_state(state)
    return proxy


def _batches(operations: list[tuple[int, tuple[Argument, ...]]]) -> Iterator[list[tuple[int, tuple[Argument, ...]]]]:
    batch: list[tuple[int, tuple[Argument, ...]]] = []
    size = 0
    for each in operations:
        bytes_of = sum(argument.item.size for argument in each[1])
        if batch and (len(batch) >= _BATCH or size + bytes_of > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += bytes_of
    if batch:
        yield batch


class _Mapping(StoreProxy):
    """What dicts and namespaces have in common: entries."""

    def _find(self, name: Any) -> Any:
        """The value of a key, or _ABSENT."""
        try:
            return self._reader.get(name, _ABSENT)
        except AskDaemon:
            found = self._one(store.GET, key(name))
            return found[0] if found else _ABSENT

    def _entries(self, keys: bool, values: bool) -> list[list[Any]]:
        """[key, value, place] of each entry, without what is not asked for, in the order of insertion: from the daemon."""
        found: dict[Any, list[Any]] = {}
        wanted = (1 if keys else 0) | (2 if values else 0)
        width = keys + values + 1
        at, then = 0, 0
        while (at, then) != (-1, -1):
            page = self._one(store.SCAN, integer(at), integer(then), integer(wanted))
            at, then = page[0], page[1]
            for start in range(2, len(page), width):
                entry = page[start:start + width]
                found[entry[-1]] = entry
        return [found[place] for place in sorted(found)]

    def _items(self) -> list[tuple[Any, Any]]:
        try:
            items: list[tuple[Any, Any]] = self._whole("items")
            return items
        except AskDaemon:
            return [(entry[0], entry[1]) for entry in self._entries(True, True)]


class DictProxy(_Mapping):
    """A shared dict. Keeps the order of insertion."""

    _type, _typeid = "dict", "dict"

    def _filled(self, *content: Any, **more: Any) -> DictProxy:
        self.update(*content, **more)
        return self

    def _getvalue(self) -> dict[Any, Any]:
        return dict(self._items())

    copy = _getvalue

    def __getitem__(self, name: Any) -> Any:
        try:
            found = self._reader.get(name, _ABSENT)
        except AskDaemon:
            found = self._find(name)
        if found is _ABSENT:
            raise KeyError(name)
        return found

    def __setitem__(self, name: Any, value: Any) -> None:
        self._change_by(store.SET, "kv", name, value)

    def __delitem__(self, name: Any) -> None:
        try:
            self._do(store.DELETE, "k", name)
        except DaemonError as error:
            raise _key_error(error, name) from None

    def __contains__(self, name: Any) -> bool:
        try:
            return bool(self._reader.contains(name))
        except AskDaemon:
            return bool(self._one(store.CONTAINS, key(name))[0])

    def __len__(self) -> int:
        return self._length()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def keys(self) -> list[Any]:
        try:
            return list(self._whole("keys"))
        except AskDaemon:
            return [entry[0] for entry in self._entries(True, False)]

    def values(self) -> list[Any]:
        try:
            return list(self._whole("values"))
        except AskDaemon:
            return [entry[0] for entry in self._entries(False, True)]

    def items(self) -> list[tuple[Any, Any]]:
        return self._items()

    def get(self, name: Any, default: Any = None) -> Any:
        try:
            return self._reader.get(name, default)
        except AskDaemon:
            found = self._find(name)
            return default if found is _ABSENT else found

    def pop(self, name: Any, *default: Any) -> Any:
        try:
            return self._do(store.POP, "k", name)[0]
        except DaemonError as error:
            if error.code == "unknown_key" and default:
                return default[0]
            raise _key_error(error, name) from None

    def popitem(self) -> tuple[Any, Any]:
        try:
            name, value = self._one(store.POP_ITEM)
        except DaemonError as error:
            raise _key_error(error, "popitem(): dictionary is empty") from None
        return name, value

    def setdefault(self, name: Any, default: Any = None) -> Any:
        return self._do(store.GET_OR_SET, "kv", name, default)[0]

    def update(self, *content: Any, **more: Any) -> None:
        """As dict.update(). Up to 200 entries become visible at once."""
        merged = dict(*content, **more)
        opened = self._opened
        packed = store.pack_sets(store.SET, opened.number, merged, _BATCH, _BATCH_BYTES)
        if packed is not None:
            for count, body in packed:
                opened.change_packed(count, body)
            return
        for batch in _batches([(store.SET, (key(name), self._value(value))) for name, value in merged.items()]):
            self._opened.run(*batch)

    def clear(self) -> None:
        self._one(store.CLEAR)

    # Beyond multiprocessing

    def watch(self, name: Any = _ABSENT) -> Watch:
        """Changes from now on, as they come: of one entry, or of all."""
        return Watch(self._opened, None if name is _ABSENT else store.encode_key(name))

    def set(self, name: Any, value: Any, ttl: float | None = None) -> None:
        """Sets an entry that vanishes after `ttl` seconds."""
        arguments = [] if ttl is None else [integer(max(1, int(ttl * 1000)))]
        self._one(store.SET, key(name), self._value(value), *arguments)

    def expire(self, name: Any, ttl: float | None) -> None:
        """Gives an entry a new time to live in seconds; None: for ever. Raises KeyError."""
        try:
            self._one(store.EXPIRE, key(name), integer(-1 if ttl is None else max(1, int(ttl * 1000))))
        except DaemonError as error:
            raise _key_error(error, name) from None

    def incr(self, name: Any, by: int | float = 1) -> Any:
        """Adds to a number, in one step; what is not there counts as 0. Returns the sum."""
        return self._do(store.INCR, "kv", name, by)[0]

    def compare_and_set(self, name: Any, expected: Any, value: Any) -> bool:
        """Sets the entry to `value` if it is `expected`; True if it was."""
        try:
            self._one(store.COMPARE_AND_SET, key(name), store.value(expected), self._value(value))
        except DaemonError as error:
            return _unless_changed(error)
        return True


def _key_error(error: DaemonError, name: Any) -> BaseException:
    return KeyError(name) if error.code == "unknown_key" else error


def _unless_changed(error: DaemonError) -> bool:
    if error.code != "changed":
        raise error
    return False


class ListProxy(StoreProxy):
    """A shared list."""

    _type, _typeid = "list", "list"

    def _filled(self, content: Iterable[Any] = ()) -> ListProxy:
        self.extend(content)
        return self

    def _snapshot(self) -> tuple[int, list[Any]]:
        """The version and all the elements, which belonged to the list at the same time."""
        try:
            snapshot: tuple[int, list[Any]] = self._whole("snapshot")
            return snapshot
        except AskDaemon:
            return self._asked_snapshot()

    def _asked_snapshot(self) -> tuple[int, list[Any]]:
        for _ in range(_TRIES):
            version, _, _ = self._one(store.STAT)
            found = self._read(0, 1 << 62)
            if self._one(store.STAT)[0] == version:
                return version, found
        version = self._one(store.HOLD, integer(FOREVER))[0]
        try:
            return version, self._read(0, 1 << 62)
        finally:
            self._one(store.UNHOLD)

    def _read(self, start: int, stop: int) -> list[Any]:
        found: list[Any] = []
        while start < stop:
            at, *page = self._one(store.LIST_SLICE, integer(start), integer(stop))
            if not page:
                break
            found += page
            start = at
        return found

    def _getvalue(self) -> list[Any]:
        return self._snapshot()[1]

    def _change(self, change: Callable[[list[Any]], Any]) -> Any:
        """Replaces all by what `change` makes of a copy, unless somebody else was first: then again."""
        while True:
            version, content = self._snapshot()
            result = change(content)
            replaced = store.items([self._value(element) for element in content])
            try:
                self._opened.run((store.EXPECT, (integer(version),)), (store.LIST_REPLACE, (replaced,)))
                return result
            except DaemonError as error:
                _unless_changed(error)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._getvalue()[index]
        try:
            return self._reader.item(index)
        except AskDaemon:
            pass
        try:
            return self._one(store.LIST_GET, integer(index.__index__()))[0]
        except DaemonError as error:
            raise _index_error(error, "list index out of range") from None

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._change(lambda content: content.__setitem__(index, value))
            return
        try:
            self._do(store.LIST_SET, "iv", index.__index__(), value)
        except DaemonError as error:
            raise _index_error(error, "list assignment index out of range") from None

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            self._change(lambda content: content.__delitem__(index))
            return
        try:
            self._one(store.LIST_DELETE, integer(index.__index__()))
        except DaemonError as error:
            raise _index_error(error, "list assignment index out of range") from None

    def __len__(self) -> int:
        return self._length()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._getvalue())

    def __contains__(self, value: Any) -> bool:
        return value in self._getvalue()

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._getvalue())

    def __add__(self, other: Any) -> list[Any]:
        return self._getvalue() + list(other)

    def __mul__(self, times: int) -> list[Any]:
        return self._getvalue() * times

    __rmul__ = __mul__

    def __iadd__(self, other: Iterable[Any]) -> ListProxy:  # type: ignore[misc]
        self.extend(other)
        return self

    def __imul__(self, times: int) -> ListProxy:
        self._change(lambda content: content.__imul__(times))
        return self

    def append(self, value: Any) -> None:
        self._change_by(store.LIST_APPEND, "v", value)

    def extend(self, values: Iterable[Any]) -> None:
        for batch in _batches([(store.LIST_APPEND, (self._value(value),)) for value in values]):
            self._opened.run(*batch)

    def insert(self, index: int, value: Any) -> None:
        self._do(store.LIST_INSERT, "iv", index, value)

    def pop(self, index: int = -1) -> Any:
        try:
            return self._do(store.LIST_POP, "i", index)[0]
        except DaemonError as error:
            raise _index_error(error, "pop index out of range") from None

    def reverse(self) -> None:
        self._one(store.LIST_REVERSE)

    def clear(self) -> None:
        self._one(store.CLEAR)

    def copy(self) -> list[Any]:
        return self._getvalue()

    def count(self, value: Any) -> int:
        return self._getvalue().count(value)

    def index(self, value: Any, *bounds: int) -> int:
        return self._getvalue().index(value, *bounds)

    def remove(self, value: Any) -> None:
        self._change(lambda content: content.remove(value))

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        self._change(lambda content: content.sort(key=key, reverse=reverse))

    watch = StoreProxy._watch  # beyond multiprocessing


def _index_error(error: DaemonError, text: str) -> BaseException:
    return IndexError(text) if error.code == "out_of_range" else error


class ArrayProxy(ListProxy):
    """A shared array: a list of numbers of one type."""

    _typeid = "Array"

    def _state(self) -> Any:
        return self.__dict__["_typecode"]

    def _set_state(self, state: Any) -> None:
        self.__dict__["_typecode"] = state

    def _do(self, code: int, kinds: str, *arguments: Any) -> list[Any]:
        """Elements are of the array's type, whatever is given."""
        return self._opened.one(code, *[self._argument(kind, value) for kind, value in zip(kinds, arguments)])

    def _change_by(self, code: int, kinds: str, *arguments: Any) -> None:
        self._do(code, kinds, *arguments)

    def _value(self, value: Any) -> Argument:
        return store.value(array.array(self.__dict__["_typecode"], [value])[0])

    def __str__(self) -> str:
        return f"array({self.__dict__['_typecode']!r}, {self._getvalue()!r})"


class NamespaceProxy(_Mapping):
    """A shared object with attributes. Names with an underscore in front are the proxy's own."""

    _type, _typeid = "namespace", "Namespace"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = self._find(name)
        if found is _ABSENT:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._change_by(store.SET, "kv", name, value)

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            object.__delattr__(self, name)
            return
        try:
            self._do(store.DELETE, "k", name)
        except DaemonError as error:
            raise AttributeError(name) if error.code == "unknown_key" else error from None

    def _getvalue(self) -> Namespace:
        return Namespace(**dict(self._items()))


class ValueProxy(StoreProxy):
    """A shared value."""

    _type, _typeid = "value", "Value"

    def _state(self) -> Any:
        return self.__dict__["_typecode"]

    def _set_state(self, state: Any) -> None:
        self.__dict__["_typecode"] = state

    def get(self) -> Any:
        try:
            return self._reader.value()
        except AskDaemon:
            return self._one(store.VALUE_GET)[0]

    def set(self, value: Any) -> None:
        self._change_by(store.VALUE_SET, "v", value)

    value = property(get, set)
    watch = StoreProxy._watch

    def incr(self, by: int | float = 1) -> Any:
        """Adds to it in one step; returns the sum."""
        return self._do(store.VALUE_INCR, "v", by)[0]

    def compare_and_set(self, expected: Any, value: Any) -> bool:
        """Sets it to `value` if it is `expected`; True if it was."""
        try:
            self._one(store.VALUE_COMPARE_AND_SET, store.value(expected), self._value(value))
        except DaemonError as error:
            return _unless_changed(error)
        return True

    def _getvalue(self) -> Any:
        return self.get()

    def __str__(self) -> str:
        return f"Value({self.__dict__['_typecode']!r}, {self.get()!r})"


class QueueProxy(StoreProxy):
    """A shared queue."""

    _type, _typeid = "queue", "Queue"

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        try:
            self._change_by(store.QUEUE_PUT, "vi", item, milliseconds(timeout) if block else 0)
        except DaemonError as error:
            raise queue.Full() if error.code == "timed_out" else error from None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._do(store.QUEUE_GET, "i", milliseconds(timeout) if block else 0)[0]
        except DaemonError as error:
            raise queue.Empty() if error.code == "timed_out" else error from None

    def put_nowait(self, item: Any) -> None:
        self.put(item, False)

    def get_nowait(self) -> Any:
        return self.get(False)

    def qsize(self) -> int:
        return int(self._one(store.QUEUE_STATE)[0])

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        items, maxsize, _ = self._one(store.QUEUE_STATE)
        return 0 < maxsize <= items

    def task_done(self) -> None:
        try:
            self._one(store.TASK_DONE)
        except DaemonError as error:
            raise ValueError("task_done() called too many times") if error.code == "out_of_range" else error from None

    def join(self) -> None:
        self._one(store.QUEUE_JOIN, integer(FOREVER))

    watch = StoreProxy._watch  # beyond multiprocessing


class JoinableQueueProxy(QueueProxy):
    _type, _typeid = "joinable_queue", "JoinableQueue"
