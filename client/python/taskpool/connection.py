"""multiprocessing.connection: its objects are the kernel's, and do between the daemon's workers as they are."""

from multiprocessing.connection import (AuthenticationError, BufferTooShort, Client, Connection, Listener, Pipe,  # type: ignore[attr-defined]
    address_type, answer_challenge, arbitrary_address, deliver_challenge, families, wait)

__all__ = ["AuthenticationError", "BufferTooShort", "Client", "Connection", "Listener", "Pipe", "address_type",
           "answer_challenge", "arbitrary_address", "deliver_challenge", "families", "wait"]
