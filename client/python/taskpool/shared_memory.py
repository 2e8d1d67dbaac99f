"""multiprocessing.shared_memory: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.shared_memory import ShareableList, SharedMemory

__all__ = ["ShareableList", "SharedMemory"]
