"""multiprocessing.queues: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.queues import Empty, Full, JoinableQueue, Queue, SimpleQueue  # type: ignore[attr-defined]

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]
