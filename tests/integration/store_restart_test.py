#!/usr/bin/python3
"""The shared store over the end of its daemon: killed, stopped, damaged files, resumed sessions."""

import os
import signal
import struct
import unittest

import store_dict_test  # noqa: F401  sets the path up
from story import Daemon, Failed, eventually
from store import QUIET, Int, Store, Value, items_argument, key_argument, operation
from wire import Session


class Restarts(unittest.TestCase):
    config = 'session_grace = "2s"'

    def setUp(self):
        self.daemon = Daemon(self.config)
        self.daemon.start()
        self.addCleanup(self.daemon.__exit__, None)

    def store(self, **hello):
        session = self.daemon.session(**hello)
        self.addCleanup(session.close)
        return Store(session)

    def kill(self):
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()

    def files(self):
        folder = self.daemon.socket + ".store"
        return sorted(os.listdir(folder)) if os.path.exists(folder) else []

    def segment(self):
        return os.path.join(self.daemon.socket + ".store", f"uid-{os.getuid()}")

    def fill(self, store):
        d = store.open("dict", "d")
        store.run(*[operation("set", d.target, key_argument(n), n) for n in range(900)])
        made = store.open("list", "l")
        made.op("list_extend", items_argument(range(900)))
        store.open("value", "v", body=b"7", encoding=1)
        array = store.open("array", "a", typecode="i64", length=3)
        array.op("array_set", Int(1), Value(struct.pack("<q", 5), 19))
        queue = store.open("queue", "q", maxsize=10)
        queue.op("queue_put", "item", Int(0))
        store.open("semaphore", "s", value=3)

    def check(self, store):
        d = store.open("dict", "d", create="never")
        self.assertEqual(d.items(), {n: n for n in range(900)})
        self.assertEqual(store.open("list", "l", create="never").all(), list(range(900)))
        self.assertEqual(store.open("value", "v", create="never").op("value_get"), 7)
        array = store.open("array", "a", create="never")
        self.assertEqual((array.about["typecode"], array.about["length"], array.op("array_get", Int(1))), ("i64", 3, 5))
        queue = store.open("queue", "q", create="never")
        self.assertEqual(queue.op("queue_state"), [1, 10, 1])
        self.assertEqual(queue.op("queue_get", Int(0)), "item")
        queue.op("task_done")
        queue.op("queue_put", "item", Int(0))
        self.assertEqual(store.open("semaphore", "s", create="never").op("sync_state"), [3, 0])

    def test_a_killed_daemon_loses_nothing_that_has_a_name(self):
        self.fill(self.store())
        for _ in range(2):
            self.kill()
            self.check(self.store())

    def test_nor_does_one_that_was_stopped(self):
        self.fill(self.store())
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        self.check(self.store())

    def test_time_to_live_goes_on(self):
        d = self.store().open("dict", "d")
        d.set("short", 1, 500)
        d.set("kept", 1)
        self.kill()
        d = self.store().open("dict", "d")
        eventually(lambda: d.op("len") == 1, "the entry expires")

    def test_nothing_is_left_of_a_store_that_is_empty(self):
        store = self.store()
        store.open("dict")
        d = store.open("dict", "d")
        self.assertEqual(self.files(), ["lock", f"uid-{os.getuid()}"])
        d.delete()
        store.session.close()
        eventually(lambda: self.daemon.counter("store_objects") == 0, "the anonymous one goes")
        eventually(lambda: self.daemon.counter("sessions_open") == 1, "the session is gone")
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(self.files(), [])

    def test_anonymous_objects_wait_for_their_session_to_come_back(self):
        store = self.store()
        token = store.session.welcome["token"]
        made = store.open("dict")
        made.set("a", 1)
        stranger = self.store()
        lost = stranger.open("dict")
        self.kill()
        again = self.store(resume=token)
        self.assertTrue(again.session.welcome["resumed"])
        self.assertEqual(again.session.welcome["token"], token)
        self.assertEqual(again.open(object=made.id).get("a"), 1)
        self.assertNotIn("resumed", self.store(resume=token).session.welcome)  # it is taken
        self.assertNotIn("resumed", self.store(resume="no such token").session.welcome)
        ids = lambda: {row["object"] for row in again.session.ask("objects")["objects"]}
        eventually(lambda: lost.id not in ids(), "nobody came back for it")
        self.assertIn(made.id, ids())
        again.session.close()
        eventually(lambda: self.daemon.counter("store_objects") == 0, "it goes with the session that resumed")

    def test_a_request_that_is_sent_again_is_not_done_again(self):
        store = self.store()
        token = store.session.welcome["token"]
        d = store.open("dict", "d")
        set_request = d.begin("set", key_argument("a"), 1)
        incr_request = d.begin("incr", key_argument("n"), 1)
        d.end(incr_request)
        last = store.session.last_request
        self.kill()
        other = self.store().open("dict", "d")
        other.set("a", 2)
        again = self.store(resume=token)
        d = again.open("dict", "d", target=1)
        again.session.send("store", body=operation("set", 1, key_argument("a"), 1), count=1, request=set_request)
        self.assertEqual(again.results(set_request), [[]])  # done, long ago
        again.session.send("store", body=operation("incr", 1, key_argument("n"), 1), count=1, request=incr_request)
        with self.assertRaises(Failed) as caught:
            again.results(incr_request)
        self.assertEqual(caught.exception.code, "outcome_unknown")
        self.assertEqual((other.get("a"), other.get("n")), (2, 1))
        again.session.last_request = last
        self.assertEqual(d.op("incr", key_argument("n"), 1), 2)

    def test_files_that_are_no_segments_are_moved_aside(self):
        self.fill(self.store())
        self.daemon.stop(signal.SIGKILL)
        with open(self.segment(), "r+b") as file:
            file.write(b"garbage!" * 8)
        self.daemon.start()
        store = self.store()
        with self.assertRaises(Failed):
            store.open("dict", "d", create="never")
        self.fill(store)
        self.assertIn(f"uid-{os.getuid()}.damaged-1", self.files())
        self.assertIn("event=store_damaged", self.daemon.log())
        self.daemon.stop(signal.SIGKILL)
        os.truncate(self.segment(), 100)
        self.daemon.start()
        self.assertIn(f"uid-{os.getuid()}.damaged-2", self.files())
        self.daemon.stop()
        os.rename(os.path.join(self.daemon.socket + ".store", f"uid-{os.getuid()}.damaged-1"), self.segment())
        os.chmod(self.segment(), 0o644)
        self.daemon.start()
        self.assertIn(f"uid-{os.getuid()}.damaged-1", self.files())

    def is_put_aside(self, number, change):
        """Changes the file of a store, and says whether the next daemon goes on without it, and keeps it."""
        self.fill(self.store())
        self.daemon.stop(signal.SIGKILL)
        change(self.segment())
        self.daemon.start()
        with self.assertRaises(Failed):
            self.store().open("dict", "d", create="never")
        self.assertEqual(self.daemon.log().count("event=store_damaged"), number)
        return f"uid-{os.getuid()}.damaged-{number}" in self.files()

    def test_one_of_another_format_owner_or_domain_is_put_aside(self):
        def another_format(path):
            with open(path, "r+b") as file:
                file.seek(8)
                file.write(struct.pack("<Q", 99))

        def another_domain(path):
            other = os.path.join(os.path.dirname(path), "uid-54321")
            os.rename(path, other)

        self.assertTrue(self.is_put_aside(1, another_format))
        self.fill(self.store())
        self.daemon.stop(signal.SIGKILL)
        another_domain(self.segment())
        self.daemon.start()
        self.assertIn("uid-54321.damaged-1", self.files())
        self.assertIn("it is that of uid:", self.daemon.log())

    @unittest.skipUnless(os.geteuid() == 0, "needs root: gives a file away")
    def test_one_of_another_owner_is_put_aside(self):
        self.assertTrue(self.is_put_aside(1, lambda path: os.chown(path, 12345, 12345)))

    def test_damage_inside_is_repaired_or_refused_but_never_fatal(self):
        import random
        dice = random.Random(1)
        self.fill(self.store())
        self.daemon.stop(signal.SIGKILL)
        with open(self.segment(), "rb") as file:
            content = file.read(1 << 20)
        for _ in range(15):
            with open(self.segment(), "r+b") as file:
                file.write(content)
                for _ in range(20):
                    file.seek(dice.randrange(len(content)))
                    file.write(bytes([dice.randrange(256)]))
            self.daemon.start()
            store = self.store()
            for kind, name in (("dict", "d"), ("list", "l"), ("queue", "q"), ("value", "v")):
                try:
                    made = store.open(kind, name)
                    made.op("len") if kind != "value" else made.op("value_get")
                    made.items() if kind == "dict" else made.all() if kind == "list" else None
                    made.set("new", 1) if kind == "dict" else None
                except ValueError:
                    pass  # values carry no check of their own: a flipped bit in one is for its reader to notice
                except Failed as failed:
                    self.assertIn(failed.code, ("wrong_type", "bad_segment", "unknown_object", "out_of_range", "store_full"))
            self.daemon.stop(signal.SIGKILL)
            for name in self.files():
                if "damaged" in name:
                    os.remove(os.path.join(self.daemon.socket + ".store", name))

    def test_one_daemon_at_a_time_has_a_store(self):
        self.store().open("dict", "d")
        second = Daemon(f'store_dir = "{self.daemon.socket}.store"')
        self.addCleanup(second.__exit__, None)
        second.start(wait=False)
        self.assertEqual(second.wait(), 75)
        self.assertIn("another daemon has this store", second.log())

    def test_killed_at_any_moment_every_entry_is_old_or_new(self):
        import random
        dice = random.Random(2)
        store = self.store()
        d = store.open("dict", "pairs")
        acknowledged = -1
        for round in range(8):
            limit = dice.randrange(50, 400)
            sent = []
            try:
                for number in range(acknowledged + 1, acknowledged + 1 + 2000):
                    sent.append(store.start([operation("set", d.target, key_argument("left"), number),
                                             operation("set", d.target, key_argument("right"), number)]))
                    if len(sent) == limit:
                        self.daemon.process.send_signal(signal.SIGKILL)
                    if len(sent) % 50 == 0:
                        store.results(sent[-50])
                        acknowledged = number - 49
            except (OSError, EOFError):
                pass
            self.daemon.wait()
            self.daemon.start()
            store = self.store()
            d = store.open("dict", "pairs", create="never")
            left, right = d.get("left"), d.get("right")
            self.assertEqual(left, right)
            if acknowledged >= 0:
                self.assertGreaterEqual(left, acknowledged)
            acknowledged = -1 if left is None else left


class Leaving(unittest.TestCase):
    def test_a_daemon_stays_while_something_named_is_there(self):
        daemon = Daemon('idle_exit = "100ms"')
        with daemon:
            with daemon.session() as session:
                Store(session).open("dict", "kept").set("a", 1)
            eventually(lambda: daemon.log().count("event=started") == 1, "it started")
            with daemon.session() as session:  # still there, after the time to leave would have come at the earliest
                self.assertEqual(session.apply("sleep", 0.3), 0.3)
            self.assertIsNone(daemon.process.poll())
            with daemon.session() as session:
                d = Store(session).open("dict", "kept")
                self.assertEqual(d.get("a"), 1)
                d.delete()
            self.assertEqual(daemon.wait(), 0)
            self.assertIn("event=idle", daemon.log())


if __name__ == "__main__":
    unittest.main()
