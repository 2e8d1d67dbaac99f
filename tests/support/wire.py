"""A small client in Python for tests: frames, sessions, and a daemon of one's own. PROTOCOL.md is what it follows; it shares
no code with the C++ side, so that a mistake there is not repeated here."""

import array
import collections
import json
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

OPS = (
    "hello welcome error ok prepare forget apply result map input results failed done progress cancel wait fetch ps workers "
    "pools stats functions failures pool_open pool_close pool_resize pool_pause pool_resume reload drain shutdown ping "
    "arena_open arena_segment arena_release nested_wait log whoami").split()
OP = {name: number for number, name in enumerate(OPS, 1)}
OP.update({name: number for number, name in enumerate(
    "object_open object_close object_delete store store_reply watch changed objects locks buffer_open release_refs".split(), 128)})
NAME = {number: name for name, number in OP.items()}
NONE, JSON, BYTES, PICKLE = 0, 1, 2, 3
I64 = 19
IN_ARENA, LAST = 1, 2
SANITIZED = bool(os.environ.get("TASKPOOL_SANITIZER"))
# A sanitizer keeps freed memory and surrounds what is in use: bounds on resident sizes are looser by this.
MEMORY_FACTOR = 8 if SANITIZED else 1
DEADLINE = 90.0 if SANITIZED else 30.0  # seconds; every wait in a test ends

REFERENCE = struct.Struct("<QQQ")  # segment, offset, bytes

Frame = collections.namedtuple("Frame", "op flags request target count encoding head body fds")


class Failed(Exception):
    """An `error` reply."""

    def __init__(self, head):
        super().__init__(f"{head.get('code')}: {head.get('detail')}")
        self.code = head.get("code")
        self.detail = head.get("detail", "")
        self.head = head


def encode(op, *, head=None, body=b"", flags=0, request=0, target=0, count=0, encoding=0, fds=0):
    text = json.dumps(head).encode() if head else b""
    number = OP[op] if isinstance(op, str) else op
    return struct.pack("<IHBBQIIBB6x", len(body), len(text), number, flags, request, target, count, encoding, fds) + text + body


def pack(items):
    """The packed body of several items."""
    return b"".join(struct.pack("<I", len(item)) for item in items) + b"".join(items)


def unpack(count, body):
    sizes = struct.unpack_from(f"<{count}I", body)
    items, offset = [], 4 * count
    for size in sizes:
        items.append(body[offset:offset + size])
        offset += size
    assert offset == len(body)
    return items


def eventually(question, what, deadline=DEADLINE):
    """Waits until `question` answers with something true, and returns that."""
    end = time.monotonic() + deadline
    pause = 0.001
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


class Session:
    """One connection, used by one thread."""

    def __init__(self, path, greet=True, **hello):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(path)
        self.buffer = bytearray()
        self.fds = []
        self.frames = collections.deque()
        self.up = {}    # segments of the arenas, mapped, by number
        self.down = {}
        self.last_request = 0
        if greet:
            self.send("hello", head={"version": 1, "client": "test", **hello})
            self.welcome = self.receive("welcome").head

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def new_request(self):
        self.last_request += 1
        return self.last_request

    def send(self, op, fds=(), **fields):
        data = encode(op, fds=len(fds), **fields)
        if fds:
            sent = self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            data = data[sent:]
        self.socket.sendall(data)

    def next_frame(self):
        """The next frame of any kind; None when the daemon closed the connection."""
        while True:
            if len(self.buffer) >= 32:
                body, head, op, flags, request, target, count, encoding, fds = struct.unpack_from("<IHBBQIIBB", self.buffer)
                total = 32 + head + body
                if len(self.buffer) >= total:
                    text = bytes(self.buffer[32:32 + head])
                    frame = Frame(NAME[op], flags, request, target, count, encoding, json.loads(text) if text else {},
                                  bytes(self.buffer[32 + head:total]), self.fds[:fds])
                    del self.buffer[:total]
                    del self.fds[:fds]
                    return frame
            try:
                data, ancillary, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(32 * 4))
            except ConnectionResetError:
                return None
            for level, kind, passed in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds += array.array("i", passed[:len(passed) - len(passed) % 4]).tolist()
            if not data:
                return None
            self.buffer += data

    def receive(self, *ops, request=None):
        """The next frame of one of these ops (and request); others are kept for later."""
        for kept in list(self.frames):
            if kept.op in ops and request in (None, kept.request):
                self.frames.remove(kept)
                return kept
        while True:
            frame = self.next_frame()
            if frame is None:
                raise EOFError("the daemon closed the connection")
            if frame.op == "arena_segment":
                self.down[frame.head["segment"]] = self.map_segment(frame.fds[0], frame.head["bytes"])
                continue
            if frame.op in ops and request in (None, frame.request):
                return frame
            self.frames.append(frame)

    @staticmethod
    def map_segment(fd, size):
        try:
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def open_arena(self, size):
        """A new up segment's number; its memory is in `up`."""
        opened, fds = self.ask_frame("arena_open", {"bytes": size})
        self.up[opened["segment"]] = self.map_segment(fds[0], opened["bytes"])
        return opened["segment"]

    def read_down(self, body, release=True):
        """What the references of a body in the down arena name; then gives them back."""
        items = []
        for segment, offset, size in REFERENCE.iter_unpack(body):
            items.append(bytes(self.down[segment][offset:offset + size]) if size else b"")
        if release:
            self.send("arena_release", body=body, count=len(items))
        return items

    def ask(self, op, head=None, fds=(), **fields):
        """A request and its `ok` reply's object; raises Failed."""
        return self.ask_frame(op, head, fds, **fields)[0]

    def ask_frame(self, op, head=None, fds=(), **fields):
        request = self.new_request()
        self.send(op, fds=fds, head=head, request=request, **fields)
        reply = self.receive("ok", "error", request=request)
        if reply.op == "error":
            raise Failed(reply.head)
        return json.loads(reply.body), reply.fds

    def start(self, function, argument=None, *, encoding=JSON, body=None, **options):
        """Sends an `apply` and returns its request."""
        request = self.new_request()
        data = json.dumps(argument).encode() if body is None else body
        self.send("apply", head={"function": function, **options}, body=data, encoding=encoding, count=1, request=request)
        return request

    def result(self, request):
        reply = self.receive("result", "error", "ok", request=request)
        if reply.op == "error":
            raise Failed(reply.head)
        body = self.read_down(reply.body)[0] if reply.flags & IN_ARENA else reply.body
        if reply.op == "ok" or reply.encoding == JSON:
            return json.loads(body)
        return body

    def apply(self, function, argument=None, **options):
        return self.result(self.start(function, argument, **options))

    def start_map(self, function, items, **options):
        request = self.new_request()
        body = pack([json.dumps(item).encode() for item in items])
        self.send("map", head={"function": function, **options}, body=body, encoding=JSON, count=len(items), flags=LAST,
                  request=request)
        return request

    def outcomes(self, request):
        """All outcomes of a job: {index: value or Failed}, and the counts of `done`."""
        found = {}
        while True:
            frame = self.receive("results", "failed", "done", "error", request=request)
            if frame.op == "error":
                raise Failed(frame.head)
            if frame.op == "done":
                return found, {"total": 0, "succeeded": 0, "failed": 0, **frame.head}
            for offset in range(frame.count):
                assert frame.target + offset not in found, "an outcome came twice"
                found[frame.target + offset] = Failed(frame.head) if frame.op == "failed" else None
            if frame.op == "results":
                items = self.read_down(frame.body) if frame.flags & IN_ARENA else unpack(frame.count, frame.body)
                for offset, item in enumerate(items):
                    found[frame.target + offset] = json.loads(item) if frame.encoding == JSON else item

    def map(self, function, items, **options):
        return self.outcomes(self.start_map(function, items, **options))


def binaries():
    """Where the programs under test are: below TASKPOOL_BUILD."""
    build = os.environ.get("TASKPOOL_BUILD", os.path.join(os.path.dirname(__file__), "../../build/dev"))
    return os.path.join(os.path.abspath(build), "bin")


class Daemon:
    """A daemon in a directory of its own; ends with the `with`."""

    def __init__(self, config="", *, pools=None, arguments=(), environment=None, before_exec=None):
        self.binaries = binaries()
        self.directory = tempfile.mkdtemp(prefix="taskpool-test-")
        self.socket = os.path.join(self.directory, "socket")
        self.config = os.path.join(self.directory, "config.toml")
        self.log_path = os.path.join(self.directory, "log")
        self.write_config(config, pools)
        self.arguments = list(arguments)
        self.environment = {**os.environ, **(environment or {})}
        self.before_exec = before_exec  # called in the daemon's process before it becomes the daemon
        self.process = None

    def module(self, name):
        return os.path.join(os.path.dirname(self.binaries), "modules", name + ".so")

    def write_config(self, config="", pools=None):
        if pools is None:
            pools = [{"name": "default", "workers": 2}]
        text = config + "\n"
        for pool in pools:
            pool = {"modules": [self.module("demo"), self.module("testing")], **pool} if pool.get(
                "runtime", "native") == "native" else pool
            text += "[[pool]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in pool.items())
        with open(self.config, "w") as file:
            file.write(text)

    def start(self, wait=True):
        before = self.log().count("event=started") if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.binaries, "taskpoold"), "--config", self.config, "--socket", self.socket, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, preexec_fn=self.before_exec)
        if wait:
            eventually(lambda: self.log().count("event=started") > before or self.process.poll() is not None, "the daemon starts")
            assert self.process.poll() is None, self.log()
        return self

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def ask(self, op, head=None):
        """One request in a session of its own."""
        with self.session() as session:
            return session.ask(op, head)

    def workers(self, pool="", state=None):
        """Rows of the workers that there are, or of those in a state; "running": of those that have begun what they are busy with."""
        rows = self.ask("workers", {"pool": pool})["workers"]
        if state == "running":
            return [row for row in rows if "run_ms" in row]
        return [row for row in rows if state in (None, row["state"])]

    def counter(self, name):
        return next(row["value"] for row in self.ask("stats")["counters"] if row["name"] == name)

    def session(self, **hello):
        return Session(self.socket, **hello)

    def stop(self, signo=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signo)
        return self.wait()

    def wait(self):
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the daemon did not end:\n" + self.log()[-4000:])

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        try:
            if self.process and self.process.poll() is None:
                self.process.terminate()
                self.wait()
        finally:
            if kind is not None:
                print(self.log()[-6000:])
            shutil.rmtree(self.directory, ignore_errors=True)


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def is_alive(pid):
    """True for a process that has not ended; a zombie has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
