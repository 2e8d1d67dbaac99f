"""multiprocessing.sharedctypes: its objects are the kernel's, and do between the daemon's workers as they are; their locks are
taskpool's."""

from __future__ import annotations

from multiprocessing import sharedctypes
from multiprocessing.sharedctypes import (RawArray, RawValue, Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString,
    copy)
from typing import Any

from .context import default_context

__all__ = [
    "Array", "RawArray", "RawValue", "Synchronized", "SynchronizedArray", "SynchronizedBase",
    "SynchronizedString", "Value", "copy", "synchronized",
]


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes object in shared memory, with a lock unless `lock` is False; or with that one."""
    return sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=ctx or default_context)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes array in shared memory, with a lock unless `lock` is False; or with that one."""
    return sharedctypes.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx or default_context)


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A ctypes object with a lock around it."""
    return sharedctypes.synchronized(obj, lock, ctx or default_context)
