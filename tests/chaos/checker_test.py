#!/usr/bin/env python3
"""The checker notices what it is there for: in histories made by hand, and in runs in which something is really wrong."""

import copy
import os
import shutil
import unittest

import chaos
import remains
import wire
from checker import Client, Fault, History, check
from world import World

ONE = 1 << 40


def begin(call, kind="apply", t=1.0, **fields):
    return {"e": "begin", "call": call, "kind": kind, "t": t, **fields}


def end(call, code="ok", t=2.0, **fields):
    return {"e": "end", "call": call, "code": code, "t": t, **fields}


def history(*lines, **fields):
    made = History(clients=[Client(1, "c++")], journals={1: list(lines)})
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Histories(unittest.TestCase):
    """What one call, effect or object may and may not look like."""

    def assert_wrong(self, text, made):
        wrong = check(made)
        self.assertTrue(any(text in line for line in wrong), wrong)

    def assert_right(self, made):
        self.assertEqual(check(made), [])

    def test_one_outcome(self):
        call = begin(1, effects=[7, 1])
        self.assert_right(history(call, end(1), effects=[("1", 7)]))
        self.assert_wrong("no outcome", history(call, effects=[("1", 7)]))
        self.assert_wrong("2 outcomes", history(call, end(1), end(1), effects=[("1", 7)]))
        self.assert_wrong("an outcome of no call", history(end(1)))
        self.assert_wrong("wrong result", history(call, end(1, wrong=[0]), effects=[("1", 7)]))
        killed = history(call)
        killed.clients = [Client(1, "c++", "killed")]
        self.assert_right(killed)

    def test_clients(self):
        for ended in ("hung", "died"):
            made = history()
            made.clients[0].ended = ended
            self.assert_wrong(ended, made)
        self.assert_wrong("what it saw", history({"e": "violation", "what": "what it saw", "t": 1.0}))

    def test_codes_need_a_reason(self):
        made = history(begin(1), end(1, "worker_lost"))
        self.assert_wrong("worker_lost cannot be", made)
        made.faults = [Fault(1.5, 1.5, "kill_worker")]
        self.assert_right(made)
        made.faults = [Fault(2.5, 2.5, "kill_worker")]
        self.assert_wrong("worker_lost cannot be", made)
        made = history(begin(1, key="k", effects=[7, 1]), end(1, "outcome_unknown"), faults=[Fault(1.5, 1.5, "kill_daemon")])
        self.assert_wrong("outcome_unknown of a call with an idempotency key", made)
        self.assert_wrong("internal cannot be", history(begin(1), end(1, "internal"), faults=[Fault(1, 2, "kill_daemon")]))
        self.assert_right(history(begin(1, ends="timed_out"), end(1, "timed_out")))
        self.assert_wrong("it was to end timed_out", history(begin(1, ends="timed_out"), end(1)))

    def test_items(self):
        call = begin(1, "map", items=3, effects=[7, 3])
        ran = [("1", 7), ("1", 8), ("1", 9)]
        self.assert_right(history(call, end(1, outcomes=3, failed={}, wrong=[]), effects=ran))
        self.assert_wrong("2 outcomes of 3 items", history(call, end(1, outcomes=2, failed={}, wrong=[]), effects=ran))
        lost = end(1, outcomes=3, failed={"worker_lost": [1]}, wrong=[])
        self.assert_wrong("worker_lost cannot be", history(call, lost, effects=ran))

    def test_effects(self):
        call = begin(1, effects=[7, 1])
        self.assert_wrong("never ran", history(call, end(1)))
        self.assert_wrong("ran 2 times", history(call, end(1), effects=[("1", 7), ("2", 7)]))
        keyed = begin(1, effects=[7, 1], key="k")
        self.assert_right(history(keyed, end(1), effects=[("1", 7), ("2", 7)]))  # a new daemon does not know the key
        self.assert_wrong("ran twice in life", history(keyed, end(1), effects=[("1", 7), ("1", 7)]))
        refused = history(call, end(1, "queue_full"), effects=[("1", 7)], faults=[Fault(1, 2, "fill_queue")])
        self.assert_wrong("its outcome is queue_full", refused)

    def test_detached(self):
        lines = [begin(1, detached=True, effects=[7, 1]), end(1, task="a")]
        ran = {"effects": [("1", 7)]}
        self.assert_wrong("nobody asked", history(*lines, **ran))
        self.assert_right(history(*lines, fetched={"a": {"code": "ok"}}, **ran))
        self.assert_wrong("the daemon lived", history(*lines, fetched={"a": {"code": "unknown_task"}}, **ran))
        self.assert_wrong("fetched twice", history(*lines, begin(2, "fetch", task="a"), end(2), fetched={"a": {"code": "ok"}}, **ran))

    def test_store(self):
        good = {"counters": {"1": 1, "pair.a": 0, "pair.b": 0}, "list": [11], "queue": [], "guarded": 1}
        lines = [begin(1, "incr", key="1"), end(1), begin(2, "append", token=11), end(2), begin(3, "section"), end(3),
                 begin(4, "put", token=ONE + 1), end(4), begin(5, "get"), end(5, token=ONE + 1),
                 begin(6, "put", token=ONE + 2), end(6), begin(7, "get", t=3.0), end(7, t=4.0, token=ONE + 2)]
        self.assert_right(history(*lines, store=good))
        for text, change in (("counter 1 is 2", {"counters": {"1": 2}}), ("half a batch", {"counters": {"1": 1, "pair.a": 1}}),
                             ("0 times in the list", {"list": []}), ("2 times in the list", {"list": [11, 11]}),
                             ("nobody appended it", {"list": [11, 12]}), ("the guarded value is 0", {"guarded": 0}),
                             ("was there 2 times", {"queue": [ONE + 1]}), ("nobody put it", {"queue": [5]})):
            with self.subTest(text):
                self.assert_wrong(text, history(*lines, store={**good, **change}))
        self.assert_wrong("items are lost", history(*lines[:8], store=good))
        swapped = copy.deepcopy(lines)
        swapped[9]["token"], swapped[13]["token"] = swapped[13]["token"], swapped[9]["token"]
        self.assert_wrong("after", history(*swapped, store=good))


class Runs(unittest.TestCase):
    """A daemon and a client, with one thing wrong."""

    def setUp(self):
        self.deadline, remains.DEADLINE = remains.DEADLINE, 3
        self.addCleanup(setattr, remains, "DEADLINE", self.deadline)

    def run_with(self, *, programs=None, environment=None, before_end=None, preload=None):
        world = World(preload=preload)
        self.addCleanup(shutil.rmtree, world.directory)
        self.addCleanup(world.kill_everything)
        world.programs.update(programs or {})
        os.environ.update(environment or {})
        self.addCleanup(lambda: [os.environ.pop(name) for name in environment or {}])
        run = chaos.Run(1, 2, world, plan=[], cast=("wire", "c++"), deadline=5)
        run.run()
        if before_end:
            before_end(world)
        return run.judge()

    def faulty(self, inject):
        client = os.path.join(os.path.dirname(os.path.abspath(chaos.__file__)), "faulty_client.py")
        return self.run_with(programs={"wire": ["/usr/bin/python3", client]}, environment={"CHAOS_INJECT": inject})

    def assert_named(self, text, wrong):
        self.assertTrue(any(text in line for line in wrong), wrong)

    def test_nothing_wrong(self):
        self.assertEqual(self.run_with(), [])

    def test_a_dropped_result(self):
        wrong = self.faulty("dropped")
        self.assert_named("no outcome", wrong)
        self.assert_named("hung", wrong)

    def test_a_doubled_outcome(self):
        wrong = self.faulty("doubled")
        self.assertTrue(any("came twice" in line or "nobody asked for" in line for line in wrong), wrong)

    def test_a_leaked_lock(self):
        def leak(world):
            session = world.session()
            self.addCleanup(session.close)
            remains.Store(session).open("lock", "chaos.leaked").op("acquire", remains.Int(1), remains.Int(-1))

        self.assert_named("locks held by nobody who lives", self.run_with(before_end=leak))

    def test_a_leaked_descriptor(self):
        library = os.path.join(os.path.dirname(wire.binaries()), "lib", "chaos_leak.so")
        self.assertTrue(os.path.exists(library))
        wrong = self.run_with(preload=library, environment={"CHAOS_LEAK_AFTER": "4"})
        self.assert_named("the daemon has descriptors that a fresh one has not", wrong)

if __name__ == "__main__":
    unittest.main()
