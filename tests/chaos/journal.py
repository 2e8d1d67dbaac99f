"""What the clients of the chaos test write down, one JSON object a line: `begin` before a call is made, `end` with what became
of it, and `violation` for what no call's outcome says. Times are of CLOCK_MONOTONIC, which all processes share.

Ids are a client's number times 2^40 plus a count, so that no two are alike. A call whose tasks note their runs names the first
id and their number in `effects`; see module.cpp."""

import itertools
import json
import os
import threading
import time


def mixed(x):
    """The result of the chaos module's functions, as mixed.hpp has it."""
    word = x * 0x9E3779B97F4A7C15 % 2**64
    return (word ^ word >> 29) >> 2


def note_effect(number, life="client"):
    """Notes the run of a task, as module.cpp does."""
    fd = os.open(os.environ["CHAOS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{life} {number}\n".encode())
    finally:
        os.close(fd)


class Journal:
    """Written by one client; each line by one write, so that a kill leaves whole lines."""

    def __init__(self, path, number):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.number = number
        self.next = itertools.count(1)
        self.lock = threading.Lock()

    def new_id(self, room=1):
        with self.lock:
            first = next(self.next)
            for _ in range(room - 1):
                next(self.next)
        return (self.number << 40) + first

    def begin(self, kind, **fields):
        call = self.new_id()
        self.write(e="begin", call=call, kind=kind, **fields)
        return call

    def end(self, call, code="ok", **fields):
        self.write(e="end", call=call, code=code, **fields)

    def violation(self, what):
        self.write(e="violation", what=what)

    def write(self, **fields):
        os.write(self.fd, (json.dumps({"t": time.monotonic(), **fields}) + "\n").encode())


def read(path):
    """The lines of a journal. The last one may be cut off if its client's disk was full; no other may."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]
