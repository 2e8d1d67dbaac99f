#!/usr/bin/env python3
"""Runs the command line as a shell script would, and notes each call: `cli_client.py JOURNAL NUMBER SEED`, until SIGTERM.
Every program that it starts has a deadline."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

from journal import Journal, mixed

TASKPOOL = os.environ["CHAOS_TASKPOOL"]
DEADLINE = 60
LINE = re.compile(r"^taskpool: (?:(?:item \d+|[0-9a-f]+-[0-9a-f]+): )?([a-z_]+)(?::|$)", re.M)


class Client:
    def __init__(self, journal, luck):
        self.journal, self.luck, self.stopping = journal, luck, False

    def taskpool(self, call, *words, stdin=None, lines=0):
        """Runs it to its end: its standard output, or nothing after it has noted the failure. `lines`: with so many of them
        it is no failure that some tell of one."""
        process = subprocess.Popen([TASKPOOL, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        try:
            out, err = process.communicate(stdin, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.journal.violation(f"taskpool {words} hangs")
            return None
        if process.returncode == 0 or (lines and out.count("\n") == lines):
            return out
        said = LINE.search(err)
        code = said.group(1) if said else f"exit {process.returncode}"
        self.journal.end(call, code, detail=err[-500:], status=process.returncode)
        return None

    def apply(self):
        number = self.journal.new_id()
        call = self.journal.begin("apply", effects=[number, 1])
        out = self.taskpool(call, "apply", "effect", number, self.luck.randrange(10))
        if out is not None:
            self.journal.end(call, **({"wrong": [0]} if int(out) != mixed(number) else {}))

    def map(self):
        size = self.luck.randrange(1, 40)
        base = self.journal.new_id(size)
        call = self.journal.begin("map", effects=[base, size], items=size)
        lines = "".join(f"[{base + i}, 0]\n" for i in range(size))
        out = self.taskpool(call, "map", "effect", "--json", "--quiet", stdin=lines, lines=size)
        if out is not None:
            failed, wrong = {}, []
            for index, value in enumerate(map(json.loads, out.splitlines())):
                if isinstance(value, dict):
                    failed.setdefault(value["error"]["code"], []).append(index)
                elif value != mixed(base + index):
                    wrong.append(index)
            self.journal.end(call, outcomes=len(out.splitlines()), failed=failed, wrong=wrong)

    def submit(self):
        """A command that outlives the program that submits it."""
        number = self.journal.new_id()
        key = f"chaos-{number}"
        call = self.journal.begin("apply", effects=[number, 1], detached=True, key=key)
        out = self.taskpool(call, "submit", "effect", number, 5, "--key", key)
        if out is None:
            return
        task = out.strip()
        self.journal.end(call, task=task)
        fetching = self.journal.begin("fetch", task=task, of=number)
        if self.taskpool(fetching, "wait", task) is None:
            return
        out = self.taskpool(fetching, "result", task)
        if out is not None:
            self.journal.end(fetching, **({"wrong": [0]} if int(out) != mixed(number) else {}))

    def command(self):
        call = self.journal.begin("apply", program=True)
        word = str(self.luck.random())
        out = self.taskpool(call, "apply", "--", "echo", word)
        if out is not None:
            self.journal.end(call, **({"wrong": [0]} if out.strip() != word else {}))

    def incr(self):
        name = str(self.journal.number)
        call = self.journal.begin("incr", key=name)
        if self.taskpool(call, "dict", "chaos.counters", "incr", "--lines", name, "1") is not None:
            self.journal.end(call)

    def put(self):
        token = self.journal.new_id()
        call = self.journal.begin("put", token=token)
        if self.taskpool(call, "queue", "chaos.queue", "put", token, "--timeout", "300ms") is not None:
            self.journal.end(call)

    def get(self):
        call = self.journal.begin("get")
        out = self.taskpool(call, "queue", "chaos.queue", "get", "--timeout", "300ms")
        if out is not None:
            self.journal.end(call, token=int(json.loads(out)[0]) if out.startswith("[") else int(out))

    def hold(self):
        """A lock held while a program runs."""
        call = self.journal.begin("lock")
        if self.taskpool(call, "lock", "chaos.lock", "--timeout", "10s", "--", "true") is not None:
            self.journal.end(call)

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        kinds = [self.apply, self.map, self.submit, self.command, self.incr, self.put, self.get, self.hold]
        while not self.stopping:
            self.luck.choice(kinds)()
            time.sleep(self.luck.random() * 0.2)


def main():
    path, number, seed = sys.argv[1:]
    Client(Journal(path, int(number)), random.Random(int(seed))).run()


if __name__ == "__main__":
    main()
