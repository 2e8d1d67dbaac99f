"""Logging records travel from workers to the program that opened the pool or started the process.

Only where the main module has not configured logging itself when the worker imported it: those handlers see the records then."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading

_MOST_TEXT = 16_000
_MOST_BYTES = 1 << 17
_FIELDS = ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs",
           "relativeCreated", "thread", "threadName", "processName", "process", "exc_text", "stack_info")


class _Sender(logging.Handler):
    """In a worker: sends each record. One that finds no room within a second is dropped, rather than the task stopped."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._socket = socket.socket(fileno=fd)
        self._socket.settimeout(1.0)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()[:_MOST_TEXT]
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            if record.exc_text:
                record.exc_text = record.exc_text[-_MOST_TEXT:]
            fields = {field: getattr(record, field, None) for field in _FIELDS}
            self._socket.send(json.dumps({**fields, "msg": message}).encode())
        except OSError:  # the program has gone, or does not read
            pass
        except Exception:
            self.handleError(record)


class _Receiver:
    """In the program: hands records to its own loggers, as if they had been made here."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        threading.Thread(target=self._run, name="taskpool-logs", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                fields = json.loads(self._ours.recv(_MOST_BYTES))
                record = logging.makeLogRecord(fields)
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
            except ValueError:  # not one of ours: whoever has the socket is a worker, and runs anything
                continue
            except OSError:
                return


_receiver: _Receiver | None = None
_lock = threading.Lock()


def channel() -> tuple[int, int]:
    """In the program: where workers send records to, and from which level on."""
    global _receiver
    with _lock:
        if _receiver is None:
            _receiver = _Receiver()
        return _receiver.theirs.fileno(), logging.getLogger().getEffectiveLevel()


def install(fd: int, level: int) -> None:
    """In a worker, when the main module has been imported."""
    root = logging.getLogger()
    if root.handlers:
        os.close(fd)
        return
    root.addHandler(_Sender(fd))
    root.setLevel(level)


def _forget_after_fork() -> None:
    global _receiver, _lock
    _receiver, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
