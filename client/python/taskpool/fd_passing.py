"""Reading a socket together with the descriptors that are passed over it."""

from __future__ import annotations

import array
import socket

MOST_FDS = 32


def receive(source: socket.socket, size: int, most_fds: int = MOST_FDS, flags: int = 0) -> tuple[bytes, list[int]]:
    """What has arrived, at most so many bytes, and the descriptors that came with it, close-on-exec. socket.recv_fds() would not
    hand its flags on before Python 3.12. Raises OSError."""
    room = socket.CMSG_SPACE(most_fds * 4)
    data, ancillary, _, _ = source.recvmsg(size, room, flags | socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, passed in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(array.array("i", passed[:len(passed) - len(passed) % 4]))
    return data, fds
