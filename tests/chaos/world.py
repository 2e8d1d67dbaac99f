"""The daemon of a run, over all its lives, and the clients that use it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))

import processes  # noqa: E402
import wire  # noqa: E402
from checker import Client  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
CONFIG = """\
stop_timeout = "2s"
cancel_grace = "500ms"
session_grace = "4s"
max_sessions = 48
store_max_bytes = "12MiB"
kept_results = 100000
log_level = "info"
[[pool]]
name = "default"
workers = 3
max_queued = 6000
modules = {modules}
[[pool]]
name = "command"
runtime = "command"
workers = 1
"""


class World:
    def __init__(self, directory=None, preload=None):
        """`preload`: a library for the first life of the daemon."""
        self.binaries = wire.binaries()
        self.directory = directory or tempfile.mkdtemp(prefix="taskpool-chaos-", dir="/dev/shm")
        self.socket = os.path.join(self.directory, "socket")
        self.effects = os.path.join(self.directory, "effects")
        self.mark = os.path.basename(self.directory)
        self.preload = preload
        self.life = 0
        self.process = None
        self.programs = {"c++": [os.path.join(self.binaries, "chaos_client")],
                         **{name: [PYTHON, os.path.join(HERE, name + "_client.py")] for name in ("python", "cli", "wire")}}
        self.is_stopping = False
        self.running = {}  # clients by number: (Client, Popen, journal)
        self.clients = []
        self.journals = {}
        modules = os.path.join(os.path.dirname(self.binaries), "modules")
        with open(os.path.join(self.directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(CONFIG.format(modules=json.dumps([os.path.join(modules, name + ".so") for name in ("demo", "chaos")])))

    def path(self, name):
        return os.path.join(self.directory, name)

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKPOOL_SOCKET", "LD_PRELOAD"))}
        return {**kept, "CHAOS_RUN": self.mark, "CHAOS_EFFECTS": self.effects, "TASKPOOL_SOCKET": self.socket,
                "CHAOS_TASKPOOL": os.path.join(self.binaries, "taskpool"), "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": os.path.join(os.path.dirname(self.binaries), "python"), **more}

    # The daemon

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        try:
            with open(self.path("daemon.log"), errors="replace", encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def start(self):
        self.life += 1
        more = {"LD_PRELOAD": self.preload} if self.preload and self.life == 1 else {}
        before = self.log().count("event=started")
        with open(self.path("daemon.log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.binaries, "taskpoold"), "--config", self.path("config.toml"), "--socket", self.socket],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(CHAOS_LIFE=str(self.life), **more),
                start_new_session=True)
        wire.eventually(lambda: self.log().count("event=started") > before or self.process.poll() is not None, "the daemon starts")
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.poll()} at its start:\n{self.log()[-2000:]}")

    def session(self):
        return wire.Session(self.socket)

    def zygotes(self):
        return processes.children(self.pid)

    def workers(self):
        """(worker, parent) pairs; also a Python program's templates, which are zygotes of its own."""
        found = [(worker, zygote) for zygote in self.zygotes() for worker in processes.children(zygote)]
        return found + [(worker, template) for template, _ in found if "python" in processes.text(template, "cmdline")
                        for worker in processes.children(template)]

    def limit_descriptors(self, pid, room):
        """Lets a process open `room` more than it has, where its numbers have no gaps; a function that ends that."""
        try:
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            highest = max((int(name) for name in os.listdir(f"/proc/{pid}/fd")), default=0)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(highest + 1 + room, before[0]), before[1]))
        except OSError:
            return lambda: None

        def end():
            try:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            except OSError:
                pass

        return end

    # Clients

    def start_client(self, language, seed, mode="calls"):
        number = len(self.clients) + 1
        journal = self.path(f"{number}-{language}.journal")
        words = [*self.programs[language], journal, str(number), str(seed), *([mode] if language == "wire" else [])]
        with open(self.path(f"{number}-{language}.log"), "ab") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(),
                                       start_new_session=True)
        client = Client(number, language)
        self.clients.append(client)
        self.running[number] = (client, process, mode)
        self.journals[number] = journal
        return client

    def reap(self):
        """Notes clients that ended, though nobody asked them to."""
        for number, (client, process, mode) in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[number]
            if process.returncode == -signal.SIGTERM and self.is_stopping and not os.path.exists(self.path(f"{number}-{client.language}.journal")):
                continue  # it was asked to end before it had begun
            if process.returncode != 0 and client.ended == "itself":
                client.ended = "died"
                client.detail = f"{mode}: code {process.returncode}: {self.client_log(client)[-1500:]}"

    def client_log(self, client):
        with open(self.path(f"{client.number}-{client.language}.log"), errors="replace", encoding="utf-8") as file:
            return file.read()

    def stop_clients(self, deadline):
        """Asks all of them to end; who does not in time hangs."""
        self.is_stopping = True
        for _, process, mode in self.running.values():
            if mode == "calls":
                process.terminate()
        end = time.monotonic() + deadline
        while self.running and time.monotonic() < end:
            self.reap()
            time.sleep(0.02)
        for client, process, _ in list(self.running.values()):
            client.ended = "hung"
            client.detail = processes.about(process.pid) + "\n" + self.stack(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running.clear()

    @staticmethod
    def stack(pid):
        if not shutil.which("gdb"):
            return ""
        try:
            return subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"], capture_output=True, text=True,
                                  timeout=30, check=False).stdout[-4000:]
        except subprocess.TimeoutExpired:
            return ""

    def kill_everything(self):
        """Whatever still runs of this run: only after a failure there is anything."""
        for pid in processes.with_environment("CHAOS_RUN", self.mark):
            if pid != os.getpid():
                processes.send(pid, None, signal.SIGKILL)
        if self.process:
            self.process.wait()
