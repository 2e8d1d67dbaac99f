"""Manager: shared objects in the daemon's store, with the proxies of multiprocessing.managers.

What they hold belongs to the store, so a process that dies takes nothing with it: its locks are released, and the next owner is
told. Classes that a program registers itself are served from a process, by multiprocessing's own server."""

from __future__ import annotations

import array
import multiprocessing.managers
import threading
import weakref
from multiprocessing.managers import (AutoProxy, BaseProxy, IteratorProxy, MakeProxyType, Namespace, RemoteError, Server,  # type: ignore[attr-defined]
    Token)
from typing import Any, Callable, Iterable

from . import store
from .context import default_context
from .pool import Pool
from .proxies import ArrayProxy, DictProxy, JoinableQueueProxy, ListProxy, NamespaceProxy, QueueProxy, StoreProxy, ValueProxy
from .waiting import (AcquirerProxy, BarrierProxy, BoundedSemaphoreProxy, ConditionProxy, EventProxy, LockProxy, RLockProxy,
                      SemaphoreProxy)

__all__ = ["AcquirerProxy", "ArrayProxy", "AutoProxy", "BarrierProxy", "BaseManager", "BaseProxy", "ConditionProxy", "DictProxy",
           "EventProxy", "IteratorProxy", "JoinableQueueProxy", "ListProxy", "MakeProxyType", "Namespace", "NamespaceProxy", "QueueProxy",
           "RemoteError", "Server", "SharedMemoryManager", "StoreProxy", "SyncManager", "Token", "ValueProxy"]

SharedMemoryManager = multiprocessing.managers.SharedMemoryManager


class BaseManager(multiprocessing.managers.BaseManager):
    """Serves objects of registered classes from a process: multiprocessing's own manager, on a process of the daemon's."""

    def __init__(self, address: Any = None, authkey: bytes | None = None, serializer: str = "pickle", ctx: Any = None, *,
                 shutdown_timeout: float = 1.0) -> None:
        super().__init__(address, authkey, serializer, ctx or default_context, shutdown_timeout=shutdown_timeout)


class SyncManager(BaseManager):
    """Makes shared objects in the daemon's store. `nested`: plain lists and dicts that are stored in shared ones become shared
    themselves; otherwise they are copied, as multiprocessing does."""

    def __init__(self, *arguments: Any, nested: bool = False, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._nested = nested
        self._is_running = False
        self._process: Any = None
        self._made: list[Any] = []  # weak references to proxies
        self._has_server = False  # of objects of registered classes
        self._server_lock = threading.Lock()  # of starting it
        self._server_initializer: tuple[Any, tuple[Any, ...]] = (None, ())
        self._stop_server: Callable[[], None] | None = None

    def start(self, initializer: Callable[..., Any] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Begins. A process is started for an address or the initializer, or when an object of a registered class is made."""
        if self._is_running:
            raise multiprocessing.ProcessError("Already started server")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._server_initializer = (initializer, tuple(initargs))
        if initializer is not None or self.address is not None:
            self._start_server()
        self._is_running = True

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        self._check_running()
        with self._server_lock:
            if not self._has_server:
                self._start_server()
        return super()._create(typeid, *args, **kwds)  # type: ignore[misc]

    def _start_server(self) -> None:
        super().start(*self._server_initializer)
        self._stop_server = self.__dict__.pop("shutdown")
        self._has_server = True

    def shutdown(self) -> None:  # type: ignore[override]
        """Ends the objects that this manager made, wherever they are in use."""
        for reference in self._made:
            proxy = reference()
            if proxy is not None:
                opened = proxy.__dict__["_object"]
                if not opened.session.is_broken:
                    opened.delete_soon()
        self._made.clear()
        self._is_running = False
        self._has_server = False
        if self._stop_server is not None:
            self._stop_server()
            self._stop_server = None

    def join(self, timeout: float | None = None) -> None:
        """Waits for the end of the process, if there is one."""
        if self._process is not None:
            super().join(timeout)

    def __enter__(self) -> SyncManager:
        if not self._is_running:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def connect(self) -> None:
        """Uses the daemon, which runs already; objects of registered classes are those that are served at the address, if it has
        one."""
        if self.address is not None:
            super().connect()
            self._has_server = True
        self._is_running = True

    def _check_running(self) -> None:
        if not self._is_running:
            raise AssertionError("server not yet started")

    def _keep(self, proxy: Any) -> Any:
        self._made.append(weakref.ref(proxy))
        if len(self._made) % 1000 == 0:
            self._made = [reference for reference in self._made if reference() is not None]
        return proxy

    def _make(self, kind: type[StoreProxy], **fields: Any) -> Any:
        self._check_running()
        return self._keep(kind(fields, nested=self._nested))

    def open(self, typeid: str, name: str, *, group: str = "", create: str = "open", **options: Any) -> Any:
        """An object with a name, which lives until it is deleted, also without this program: opened, or made if it is not there.
        `create`: "open", "exclusive" (it must not be there) or "never" (it must). `group`: a Unix group that shares it. Further
        options are those of the type: `maxsize`, `value`, `parties`. Other programs, in other languages too, open it by the same
        name."""
        self._check_running()
        kind = _KINDS.get(typeid)
        if kind is None:
            raise ValueError(f"there is no type {typeid!r}: want one of {', '.join(sorted(_KINDS))}")
        fields = {"name": name, "create": create, **options}
        if group:
            fields["group"] = group
        initial = store.value(options.pop("initial", None)) if kind is ValueProxy else None
        fields.pop("initial", None)
        proxy = kind(fields, initial, self._nested)
        if kind is ValueProxy:
            proxy._set_state("O")
        elif kind is BarrierProxy:
            proxy._set_state((None, None))
        return proxy

    def delete(self, proxy: StoreProxy) -> None:
        """Ends an object, for everybody, whether it has a name or not."""
        proxy._opened.delete()

    def dict(self, *content: Any, **more: Any) -> DictProxy:
        return self._make(DictProxy)._filled(*content, **more)

    def list(self, content: Iterable[Any] = ()) -> ListProxy:
        return self._make(ListProxy)._filled(content)

    def Namespace(self, **content: Any) -> NamespaceProxy:
        proxy = self._make(NamespaceProxy)
        for name, value in content.items():
            setattr(proxy, name, value)
        return proxy

    def Value(self, typecode: Any, value: Any, lock: bool = True) -> ValueProxy:
        self._check_running()
        proxy = self._keep(ValueProxy(None, store.value(value), self._nested))
        proxy._set_state(typecode)
        return proxy

    def Array(self, typecode: str, sequence: Iterable[Any], lock: bool = True) -> ArrayProxy:
        proxy = self._make(ArrayProxy)
        proxy._set_state(typecode)
        return proxy._filled(array.array(typecode, sequence))

    def Queue(self, maxsize: int = 0) -> QueueProxy:
        return self._make(QueueProxy, maxsize=max(0, maxsize))

    def JoinableQueue(self, maxsize: int = 0) -> JoinableQueueProxy:
        return self._make(JoinableQueueProxy, maxsize=max(0, maxsize))

    def Event(self) -> EventProxy:
        return self._make(EventProxy)

    def Lock(self) -> LockProxy:
        return self._make(LockProxy)

    def RLock(self) -> RLockProxy:
        return self._make(RLockProxy)

    def Semaphore(self, value: int = 1) -> SemaphoreProxy:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        return self._make(SemaphoreProxy, value=value)

    def BoundedSemaphore(self, value: int = 1) -> BoundedSemaphoreProxy:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        return self._make(BoundedSemaphoreProxy, value=value)

    def Condition(self, lock: Any = None) -> ConditionProxy:
        return self._make(ConditionProxy, lock=0 if lock is None else lock._opened.number)

    def Barrier(self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None) -> BarrierProxy:
        proxy = self._make(BarrierProxy, parties=parties, action=action is not None)
        proxy._set_state((action, timeout))
        return proxy

    def Pool(self, *arguments: Any, **keywords: Any) -> Pool:
        return Pool(*arguments, **keywords)


_KINDS: dict[str, type[StoreProxy]] = {kind._typeid: kind for kind in (
    DictProxy, ListProxy, NamespaceProxy, ValueProxy, QueueProxy, JoinableQueueProxy, LockProxy, RLockProxy, SemaphoreProxy,
    BoundedSemaphoreProxy, EventProxy, ConditionProxy, BarrierProxy)}
