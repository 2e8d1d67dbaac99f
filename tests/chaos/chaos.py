#!/usr/bin/env python3
"""Real clients and a real daemon while everything around them fails; then judges what became of each call.

    chaos.py [--seconds N] [--seed S] [--keep]

The faults follow from the seed alone. Exit code 0: nothing was wrong. Else what was, and where the journals and logs are."""

import argparse
import collections
import datetime
import heapq
import itertools
import os
import random
import shutil
import signal
import sys
import time

import checker
import faults
import journal
import remains
import schedule
from world import World

#: Seconds that a client may need to end what it has under way; a wait for an item, a lock or a daemon is below 15 s.
DEADLINE = 60
#: Who is there all the time; somebody who was killed is replaced.
CAST = ("c++", "c++", "python", "wire", "cli")


class Run:
    def __init__(self, seed, seconds, world, plan=None, cast=CAST, deadline=DEADLINE):
        self.seed, self.seconds, self.world, self.cast, self.deadline = seed, seconds, world, cast, deadline
        self.luck = random.Random(seed + 1)
        self.plan = schedule.schedule(seed, seconds) if plan is None else plan
        self.undo = []  # (when, order, what ends a fault)
        self.order = itertools.count()
        self.history = checker.History()
        self.bench = collections.Counter()

    def later(self, when, what):
        heapq.heappush(self.undo, (when, next(self.order), what))

    def note(self, kind, begin, lasts, about=""):
        """A fault that happened; what it may excuse is judged by these."""
        self.history.faults.append(checker.Fault(begin, begin + lasts, kind))
        with open(self.world.path("faults.log"), "a", encoding="utf-8") as file:
            at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=time.monotonic() - begin)
            file.write(f"{at:%H:%M:%S.%f} {begin:.3f} {kind} for {lasts:.3f} s {about}\n")

    def run(self):
        self.world.start()
        for language in self.cast:
            self.world.start_client(language, self.luck.randrange(1 << 30))
        begun = time.monotonic()
        for fault in self.plan:
            self.wait_until(begun + fault.at)
            self.bench[fault.kind] += bool(faults.FAULTS[fault.kind](self, fault))
        self.wait_until(begun + self.seconds)
        while self.undo:  # nothing stays stopped, starved or away
            self.end_faults(float("inf"))
        self.world.stop_clients(self.deadline)

    def wait_until(self, when):
        while True:
            now = time.monotonic()
            self.end_faults(now)
            self.world.reap()
            self.look_after_the_daemon()
            if now >= when:
                return
            next_undo = self.undo[0][0] if self.undo else when
            time.sleep(max(0.0, min(when, next_undo, now + 0.05) - now))

    def end_faults(self, now):
        while self.undo and self.undo[0][0] <= now:
            heapq.heappop(self.undo)[2]()

    def look_after_the_daemon(self):
        if self.world.process.poll() is not None and not self.is_daemon_away:
            self.history.leftovers.append(f"the daemon ended by itself with {self.world.process.returncode}:\n{self.world.log()[-3000:]}")
            self.world.start()

    is_daemon_away = False

    def judge(self):
        """Everything that is wrong."""
        history, world = self.history, self.world
        history.leftovers += remains.end(world, history)
        history.clients = world.clients
        history.journals = {number: journal.read(path) for number, path in world.journals.items() if os.path.exists(path)}
        with open(world.effects, encoding="utf-8") as file:
            history.effects = [(life, int(number)) for life, number in (line.split() for line in file)]
        return checker.check(history)

    def summary(self):
        calls = collections.Counter()
        for lines in self.history.journals.values():
            for line in lines:
                if line["e"] == "end":
                    failed = line.get("failed", {})
                    calls["outcomes"] += line.get("outcomes", 1)
                    calls[line["code"]] += line.get("outcomes", 1) - sum(map(len, failed.values()))
                    for code, indices in failed.items():
                        calls[code] += len(indices)
        outcomes = ", ".join(f"{count} {code}" for code, count in calls.most_common() if code != "outcomes")
        done = ", ".join(f"{count} {kind}" for kind, count in sorted(self.bench.items()))
        return (f"{len(self.plan)} faults ({done}); {len(self.world.clients)} clients, {self.world.life} lives of the daemon; "
                f"{calls['outcomes']} outcomes: {outcomes}; {len(self.history.effects)} runs on record")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="keep the journals and logs of a good run, too")
    options = parser.parse_args()
    world = World()
    print(f"chaos: seed {options.seed}, {options.seconds:g} s, in {world.directory}", flush=True)
    run = Run(options.seed, options.seconds, world)
    wrong = ["the test itself broke off"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        run.run()
        wrong = run.judge()
        print(f"chaos: {run.summary()}")
    finally:
        world.kill_everything()
        if wrong:
            for line in wrong[:40]:
                print(f"chaos: WRONG: {line}")
            if len(wrong) > 40:
                print(f"chaos: and {len(wrong) - 40} more")
            print(f"chaos: journals and logs are in {world.directory}; again: ./dev chaos --seconds {options.seconds:g} "
                  f"--seed {options.seed}", flush=True)
        elif not options.keep:
            shutil.rmtree(world.directory)
    print("chaos: nothing wrong" if not wrong else f"chaos: {len(wrong)} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
