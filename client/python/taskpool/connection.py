"""multiprocessing.connection: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.connection import AuthenticationError, BufferTooShort, Client, Connection, Listener, Pipe, wait  # type: ignore[attr-defined]

__all__ = ["AuthenticationError", "BufferTooShort", "Client", "Connection", "Listener", "Pipe", "wait"]
