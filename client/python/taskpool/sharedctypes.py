"""multiprocessing.sharedctypes: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.sharedctypes import (Array, RawArray, RawValue, Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString,
    Value, copy, synchronized)

__all__ = [
    "Array", "RawArray", "RawValue", "Synchronized", "SynchronizedArray", "SynchronizedBase",
    "SynchronizedString", "Value", "copy", "synchronized",
]
