"""multiprocessing.synchronize: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.synchronize import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, SemLock, Semaphore

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "SemLock", "Semaphore"]
