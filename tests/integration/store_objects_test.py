#!/usr/bin/python3
"""Objects of the shared store: names, ids, who sees them, how long they live, holding, listing, and what is refused."""

import grp
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest

from store_dict_test import StoreStory
from story import Daemon, Failed, Story, eventually
from store import JSON, QUIET, Int, Raw, Store, Value, argument, items_argument, key, key_argument, operation
from wire import DEADLINE, Session, encode

TYPES = ("dict list namespace value array queue joinable_queue lock rlock semaphore bounded_semaphore condition event "
         "barrier").split()
OPTIONS = {"array": {"typecode": "i64", "length": 4}, "barrier": {"parties": 2}}


class Names(StoreStory):
    def test_every_type_has_a_name_and_an_id(self):
        for kind in TYPES:
            made = self.store.open(kind, f"every {kind}", **OPTIONS.get(kind, {}))
            self.assertTrue(made.about["created"])
            again = Store(self.session())
            by_name = again.open(kind, f"every {kind}", **OPTIONS.get(kind, {}))
            by_id = again.open(object=made.id)
            self.assertFalse(by_name.about["created"] or by_id.about["created"])
            self.assertEqual({made.id}, {by_name.id, by_id.id})
            self.assertEqual((made.about["type"], by_id.about["offset"]), (kind, made.about["offset"]))
            self.assertEqual([len(by_name.fds), len(by_id.fds)], [1, 0])  # the segment comes once
            self.assertEqual(os.fstat(by_name.fds[0]).st_size, made.about["segment_bytes"])
            with self.assertRaises(OSError):
                os.pwrite(by_name.fds[0], b"x", 0)

    def test_creating(self):
        self.refused("unknown_object", self.store.open, "dict", "new", create="never")
        made = self.store.open("dict", "new", create="exclusive")
        self.refused("object_exists", self.store.open, "dict", "new", create="exclusive")
        self.refused("wrong_type", self.store.open, "list", "new")
        self.assertEqual(self.store.open("dict", "new", create="never").id, made.id)
        made.delete()
        self.refused("unknown_object", self.store.open, "dict", "new", create="never")
        self.assertNotEqual(self.store.open("dict", "new").id, made.id)  # ids are never used again

    def test_bad_requests(self):
        for code, fields in (("bad_argument", {"type": "set"}), ("bad_argument", {"type": "session"}),
                             ("bad_message", {"type": "dict", "name": "x" * 129}), ("bad_message", {}),
                             ("bad_message", {"type": "dict", "object": "u0-5"}), ("bad_message", {"type": "dict", "create": "if"}),
                             ("bad_argument", {"type": "barrier"}), ("bad_message", {"type": "semaphore", "value": -1}),
                             ("unknown_object", {"object": "u0-999999"}), ("unknown_object", {"object": "nonsense"}),
                             ("unknown_object", {"object": f"u{os.getuid()}-1"}),
                             ("unknown_object", {"type": "condition", "lock": 77}),
                             ("unknown_object", {"type": "dict", "group": "no such group"}),
                             ("bad_message", {"type": "dict", "colour": "red"})):
            self.refused(code, self.store.session.ask, "object_open", fields, target=1)
        self.refused("bad_message", self.store.session.ask, "object_open", {"type": "dict"}, target=0)
        self.refused("bad_message", self.store.session.ask, "object_open", {"type": "dict"}, target=65537)
        d = self.store.open("dict", target=9)
        self.refused("wrong_type", self.store.session.ask, "object_open", {"type": "condition", "lock": 9}, target=10)
        self.refused("bad_argument", self.store.session.ask, "object_open", {"type": "nothing"}, target=9)
        self.refused("unknown_object", d.op, "len")  # the number does not mean what it did

    def test_a_number_may_be_used_before_its_answer(self):
        session = self.store.session
        opening, setting, counting = (session.new_request() for _ in range(3))
        session.send("object_open", head={"type": "dict"}, request=opening, target=5)
        session.send("store", body=operation("set", 5, key_argument("a"), 1), count=1, request=setting)
        session.send("store", body=operation("len", 5), count=1, request=counting)
        self.assertEqual(self.store.results(counting), [[1]])

    def test_deleting_is_for_everybody(self):
        made = self.store.open("dict", "common")
        other = Store(self.session()).open("dict", "common")
        made.delete()
        for one in (made, other):
            self.refused("unknown_object", one.op, "len")
            self.refused("unknown_object", one.delete)
        self.refused("unknown_object", self.store.open, object=made.id)

    def test_names_are_bytes_that_are_text(self):
        for name in ("ümlaut", "with space", "a/b", "-", "\U0001f600"):
            self.assertEqual(self.store.open("dict", name).id, self.store.open("dict", name).id)


class Lives(StoreStory):
    config = 'session_grace = "1s"'

    def ids(self):
        return {row["object"] for row in self.store.session.ask("objects", {"limit": 1000})["objects"]}

    def test_an_anonymous_object_goes_with_its_last_session(self):
        one, two = Store(self.daemon.session()), Store(self.daemon.session())
        made = one.open("dict")
        two.open(object=made.id)
        one.session.close()
        eventually(lambda: all(1 == len(row["sessions"]) for row in self.rows(made.id)), "the session's end is seen")
        self.assertIn(made.id, self.ids())
        two.session.close()
        eventually(lambda: made.id not in self.ids(), "the object goes")

    def rows(self, wanted):
        return [row for row in self.store.session.ask("objects", {"limit": 1000})["objects"] if row["object"] == wanted]

    def test_or_when_it_is_closed_as_often_as_it_was_opened(self):
        made = self.store.open("dict")
        again = self.store.open(object=made.id)
        made.close()
        self.assertEqual(again.op("len"), 0)
        again.close()
        self.store.session.ask("ping")
        self.assertNotIn(made.id, self.ids())
        self.store.session.send("object_close", target=999)  # nothing is open there: nothing happens
        self.store.session.ask("ping")

    def value(self, *objects):
        return Value(b"...", refs=[made.number for made in objects])

    def test_a_value_keeps_what_it_names(self):
        outer, inner = self.store.open("dict", "outer"), self.store.open("list")
        outer.set("a", self.value(inner))
        inner.op("list_append", 1)
        inner.close()
        found = self.store.open(object=inner.id)
        self.assertEqual(found.all(), [1])
        found.close()
        outer.op("delete", key_argument("a"))
        eventually(lambda: inner.id not in self.ids(), "nothing names it any more")
        outer.delete()

    def test_queues_keep_what_is_in_them(self):
        queue, inner = self.store.open("queue", "q"), self.store.open("dict")
        queue.op("queue_put", self.value(inner), Int(-1))
        inner.set("a", 1)
        inner.close()
        self.assertEqual(queue.op("queue_get", Int(-1)), b"...")
        got = self.store.open(object=inner.id)  # there is time to open it
        self.assertEqual(got.get("a"), 1)
        got.close()
        eventually(lambda: inner.id not in self.ids(), "nothing names it any more")
        queue.delete()

    def test_rings_are_collected(self):
        ring = [self.store.open("dict") for _ in range(5)]
        for index, made in enumerate(ring):
            made.set("next", self.value(ring[(index + 1) % 5]))
        anchor = self.store.open("namespace", "anchor")
        anchor.set("ring", self.value(ring[2]))
        for made in ring:
            made.close()
        for _ in range(3):
            self.store.session.ask("ping")
        self.assertLessEqual({made.id for made in ring}, self.ids())
        anchor.delete()
        eventually(lambda: not {made.id for made in ring} & self.ids(), "the ring is collected")

    def test_a_condition_keeps_its_lock(self):
        lock = self.store.open("lock")
        condition = self.store.open("condition", "c", lock=lock.target)
        lock.close()
        self.store.session.ask("ping")
        self.assertEqual(condition.op("acquire", Int(1), Int(0)), 0)
        condition.op("release", Int(1))
        condition.delete()

    def test_a_job_keeps_what_its_arguments_name(self):
        made = self.store.open("dict")
        sleeping = self.store.session.start("sleep", 0.3, refs=[made.id])
        made.close()
        self.store.session.ask("ping")
        self.assertIn(made.id, self.ids())
        self.store.session.result(sleeping)
        eventually(lambda: made.id not in self.ids(), "the job is forgotten")
        self.refused("unknown_object", self.store.session.apply, "square", 2, refs=["u0-999"])

    def test_refs_have_to_be_there(self):
        d = self.store.open("dict")
        self.refused("unknown_object", d.set, "a", Value(b"x", refs=[999999]))
        self.assertEqual(d.op("len"), 0)

    def test_objects_are_listed_in_pages(self):
        made = [self.store.open("list", f"page {number}") for number in range(25)]
        found, after = [], ""
        while True:
            page = self.store.session.ask("objects", {"type": "list", "limit": 10, "after": after})
            found += page["objects"]
            if not page["more"]:
                break
            self.assertEqual(len(page["objects"]), 10)
            after = page["objects"][-1]["object"]
        self.assertLessEqual({one.id for one in made}, {row["object"] for row in found})
        self.assertEqual([row["type"] for row in found], ["list"] * len(found))
        made[0].op("list_append", "x" * 1000)
        (row,) = self.store.session.ask("objects", {"name": "page 0"})["objects"]
        self.assertEqual((row["entries"], row["uid"], row["group"]), (1, os.getuid(), ""))
        self.assertGreater(row["bytes"], 1000)
        self.assertEqual(row["version"], made[0].stat()["version"])
        self.refused("bad_argument", self.store.session.ask, "objects", {"type": "set"})
        self.refused("bad_argument", self.store.session.ask, "objects", {"after": "x"})
        for one in made:
            one.delete()


class Holding(StoreStory):
    def test_a_held_object_is_not_written_and_order_is_kept(self):
        reader, writer = self.store, Store(self.session())
        d = reader.open("dict", "held")
        seen, free = writer.open("dict", "held"), writer.open("dict", "free")
        d.set("a", 0)
        version = d.op("hold", Int(-1))
        self.assertEqual(version, d.stat()["version"])
        requests = [seen.begin("set", key_argument("a"), 1), free.begin("set", key_argument("b"), 2),
                    seen.begin("get", key_argument("a"))]
        self.assertEqual((d.get("a"), d.stat()["version"]), (0, version))
        d.op("unhold")
        self.assertEqual([writer.results(request) for request in requests], [[[]], [[]], [[1]]])

    def test_it_ends_by_itself(self):
        d = self.store.open("dict")
        d.op("hold", Int(-1))
        d.set("a", 1)  # waits for the session's own hold to end, a second later
        self.assertEqual(d.get("a"), 1)

    def test_or_with_the_session(self):
        holder = Store(self.daemon.session())
        holder.open("dict", "h").op("hold", Int(-1))
        d = self.store.open("dict", "h")
        request = d.begin("set", key_argument("a"), 1)
        holder.session.close()
        self.store.results(request)

    def test_deleting_waits_as_well_and_may_be_cancelled(self):
        d = self.store.open("dict", "doomed")
        other = Store(self.session())
        other.open("dict", "doomed").op("hold", Int(-1))
        request = d.begin("set", key_argument("a"), 1)
        self.assertEqual(self.store.cancel(request), 1)
        self.refused("cancelled", self.store.results, request)
        d.delete()
        self.refused("unknown_object", d.op, "len")


class Full(StoreStory):
    config = 'store_max_bytes = "2MiB"'

    def test_at_the_bound_a_write_fails_and_what_was_there_stays(self):
        d = self.store.open("dict", "full")
        data = "x" * 50_000
        count = 0
        with self.assertRaises(Failed) as caught:
            while True:
                d.set(count, data)
                count += 1
        self.assertEqual(caught.exception.code, "store_full")
        self.assertGreater(count, 10)
        self.assertEqual((d.op("len"), d.get(count - 1)), (count, data))
        self.refused("store_full", self.store.run, operation("set", d.target, key_argument("small"), 1),
                     operation("set", d.target, key_argument("large"), data))
        self.assertEqual(d.op("contains", key_argument("small")), 0)
        for number in range(count):
            d.op("delete", key_argument(number))
        for number in range(count):
            d.set(number, data)
        d.op("clear")
        d.set("again", data)
        d.delete()

    def test_what_large_values_left_serves_small_ones(self):
        d = self.store.open("dict", "large")
        with self.assertRaises(Failed) as caught:
            for number in range(1000):
                d.set(number, "x" * 20_000)
        self.assertEqual(caught.exception.code, "store_full")
        d.delete()
        small = self.store.open("dict", "small")
        numbers = self.store.open("list", "numbers")
        for number in range(50):
            self.assertEqual(small.op("incr", key_argument(f"key {number}"), Int(1)), 1)
            numbers.op("list_append", Int(number))
        self.assertEqual(small.get("key 7"), 1)
        small.delete()
        numbers.delete()
        d = self.store.open("dict", "large")
        for number in range(10):
            d.set(number, "x" * 20_000)
        d.delete()


class HeldBack(StoreStory):
    """What a session sends behind an object that is held is read up to a bound, and waits in the socket beyond."""

    FRAMES, VALUE = 400, b"v" * 60_000  # 24 MB

    def flood(self, target):
        """Sends writes as far as they are taken; returns the bytes that are left, and the requests."""
        session = self.store.session
        requests, data = [], bytearray()
        for number in range(self.FRAMES):
            requests.append(session.new_request())
            body = operation("set", target, key_argument(number), self.VALUE)
            data += encode("store", body=body, count=1, request=requests[-1])
        return data, requests

    def send_some(self, data):
        session = self.store.session
        session.socket.setblocking(False)
        try:
            while data:
                del data[:session.socket.send(data)]
        except BlockingIOError:
            pass
        finally:
            session.socket.settimeout(DEADLINE)

    def send_until_held_back(self, data, before):
        """Or until a hold is over."""
        end = time.monotonic() + 1
        while self.daemon.counter("store_held_back_total") == before and time.monotonic() < end:
            self.send_some(data)

    def test_it_goes_on_when_the_object_is_free(self):
        d = self.store.open("dict", "flooded")
        holder = Store(self.session()).open("dict", "flooded")
        was_held_back = False
        for _ in range(10):  # as below
            before = self.daemon.counter("store_held_back_total")
            data, requests = self.flood(d.target)
            holder.op("hold", Int(1000))
            self.send_until_held_back(data, before)
            was_held_back = len(data) > 10_000_000 and self.daemon.counter("store_held_back_total") > before
            holder.op("unhold")
            self.store.session.socket.sendall(data)
            for request in requests:
                self.assertEqual(self.store.results(request), [[]])
            self.assertEqual(d.op("len"), self.FRAMES)
            if was_held_back:
                break
        self.assertTrue(was_held_back)
        d.delete()

    def test_its_end_is_noticed_meanwhile(self):
        d = self.store.open("dict", "left")
        lock = self.store.open("lock", "left lock")
        other = Store(self.session())
        held, waiting = other.open("dict", "left"), other.open("lock", "left lock")
        for _ in range(10):  # a hold ends after a second, which a busy machine may need for this
            if self.is_end_noticed(lock, d, held, waiting):
                return
            self.setUp()
            d, lock = self.store.open("dict", "left"), self.store.open("lock", "left lock")
        self.fail("never before the hold was over")

    def is_end_noticed(self, lock, d, held, waiting):
        lock.op("acquire", Int(1), Int(-1))
        held.op("clear")
        before = self.daemon.counter("store_held_back_total")
        data, _ = self.flood(d.target)
        held.op("hold", Int(1000))
        self.send_until_held_back(data, before)
        self.store.session.socket.close()
        self.assertEqual(waiting.op("acquire", Int(1), Int(-1)), 1)  # the last one died with it
        waiting.op("release", Int(1))
        in_time = held.op("len") == 0
        held.op("unhold")
        return in_time


class ManyNames(StoreStory):
    """The index of names grows in slices; requests that need it wait meanwhile, in order."""

    COUNT = 20_000
    config = "store_max_objects = 50000"

    def open_all(self, session, prefix):
        """Sends what opens, deletes every third, and closes; returns the requests that are answered."""
        requests = []
        for number in range(self.COUNT):
            opening = session.new_request()
            session.send("object_open", head={"type": "event", "name": f"{prefix}{number}"}, request=opening, target=7)
            requests.append(opening)
            if number % 3 == 0:
                deleting = session.new_request()
                session.send("object_delete", request=deleting, target=7)
                requests.append(deleting)
            session.send("object_close", target=7)
        return requests

    def test_they_grow_under_two_sessions(self):
        answered = {}

        def run(prefix):
            session = self.session()
            sender = threading.Thread(target=lambda: requests.extend(self.open_all(session, prefix)))
            requests = []
            sender.start()
            replies = []
            for _ in range(self.COUNT + (self.COUNT + 2) // 3):
                reply = session.receive("ok", "error")
                for fd in reply.fds:
                    os.close(fd)
                replies.append((reply.op, reply.request))
            sender.join()
            answered[prefix] = replies == [("ok", request) for request in requests]
        threads = [threading.Thread(target=run, args=(prefix,)) for prefix in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answered, {"a": True, "b": True})
        names, after = set(), ""
        while True:
            page = self.store.session.ask("objects", {"limit": 1000, **({"after": after} if after else {})})
            names.update(row["name"] for row in page["objects"])
            if not page["more"]:
                break
            after = page["objects"][-1]["object"]
        self.assertEqual(names, {f"{prefix}{number}" for prefix in "ab" for number in range(self.COUNT) if number % 3})
        self.refused("unknown_object", self.store.open, "event", "a0", create="never")
        self.store.open("event", "a1", create="never")

    def test_a_sessions_record_grows_too(self):
        session = self.session()
        requests = []
        for number in range(12_000):
            requests.append(session.new_request())
            session.send("object_open", head={"type": "event"}, request=requests[-1], target=number + 1)
        for request in requests:
            for fd in session.receive("ok", request=request).fds:
                os.close(fd)
        before = self.store.session.ask("objects", {"type": "event", "limit": 1000})
        self.assertTrue(before["more"])
        session.close()
        eventually(lambda: not [row for row in self.store.session.ask("objects", {"limit": 1000})["objects"] if not row["name"]],
                   "anonymous objects go with their session")


class ManyObjects(StoreStory):
    config = "store_max_objects = 20"

    def test_objects_have_a_bound_too(self):
        made = []
        with self.assertRaises(Failed) as caught:
            while True:
                made.append(self.store.open("dict"))
        self.assertEqual(caught.exception.code, "limit_reached")
        self.assertLessEqual(len(made), 20)
        made[0].close()
        self.store.open("dict")
        for one in made:
            one.close()

    def test_stats_say_how_full(self):
        d = self.store.open("dict")
        d.set("a", "x" * 1000)
        counters = {row["name"]: row["value"] for row in self.store.session.ask("stats")["counters"]}
        self.assertGreater(counters["store_live_bytes"], 1000)
        self.assertGreaterEqual(counters["store_bytes"], counters["store_live_bytes"])
        self.assertGreaterEqual(counters["store_objects"], 1)
        self.assertGreater(counters["store_operations_total"], 0)


@unittest.skipUnless(os.geteuid() == 0, "needs root: mounts a small tmpfs")
class FullFileSystem(unittest.TestCase):
    def test_a_full_tmpfs_is_an_error_and_nothing_else(self):
        daemon = Daemon()
        folder = os.path.join(daemon.directory, "store")
        os.mkdir(folder, 0o700)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "none", folder], check=False).returncode != 0:
            self.skipTest("may not mount")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        daemon.write_config(f'store_dir = "{folder}"')
        with daemon:
            with daemon.session() as session:
                store = Store(session)
                d = store.open("dict", "d")
                count = 0
                with self.assertRaises(Failed) as caught:
                    while True:
                        d.set(count, "x" * 10_000)
                        count += 1
                self.assertEqual(caught.exception.code, "store_full")
                self.assertEqual((d.op("len"), d.get(0)), (count, "x" * 10_000))
                d.op("delete", key_argument(0))
                d.set(0, "x" * 10_000)  # fits again


def as_user(uid, gid, groups, script, *arguments):
    """Runs Python as another user; its standard output."""
    def become():
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    here = os.path.dirname(os.path.abspath(__file__))
    prelude = f"import sys; sys.path.insert(0, {os.path.join(here, '../support')!r}); from wire import *; from store import *\n"
    done = subprocess.run([sys.executable, "-c", prelude + script, *arguments], preexec_fn=become, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@unittest.skipUnless(os.geteuid() == 0, "needs root: becomes other users")
class Shares(unittest.TestCase):
    """What one member may have in a group's store is counted by who wrote it, and bounded."""

    BOUND = 512 * 1024
    GROUP = "root"  # this process is in it
    WRITE = """
session = Session(sys.argv[1])
d = Store(session).open("dict", "ours", group="root")
written = 0
try:
    while True:
        d.set(sys.argv[2] + str(written), b"x" * 4000)
        written += 1
except Failed as failed:
    print(written, failed)
"""

    def setUp(self):
        config = f'socket_mode = "0666"\nstore_max_bytes = "8MiB"\nstore_max_writer_bytes = "{self.BOUND // 1024}KiB"'
        self.daemon = Daemon(config)
        os.chmod(self.daemon.directory, 0o755)
        self.daemon.start()
        self.addCleanup(self.daemon.__exit__, None)
        self.gid = grp.getgrnam(self.GROUP).gr_gid

    def fill(self, uid, prefix):
        written, error = as_user(uid, uid, [self.gid], self.WRITE, self.daemon.socket, prefix).split(" ", 1)
        self.assertIn("store_full", error)
        return int(written), error

    def ours(self):
        session = self.daemon.session()
        self.addCleanup(session.close)
        return Store(session).open("dict", "ours", group=self.GROUP)

    def shares(self):
        """Who has how many bytes of the group's segment; all of it."""
        with self.daemon.session() as session:
            (segment,) = session.ask("objects", {"group": self.GROUP})["segments"]
        self.assertEqual(segment["group"], str(self.gid))
        return {row["uid"]: row["bytes"] for row in segment["writers"]}, segment

    def test_one_member_fills_no_more_than_his_share(self):
        before = self.ours()
        written, error = self.fill(12345, "a")
        self.assertIn("store_max_writer_bytes", error)
        self.assertIn("12345", error)
        self.assertGreater(written, 100)
        shares, segment = self.shares()
        self.assertLessEqual(shares[12345], self.BOUND)
        self.assertGreater(shares[12345], self.BOUND - 8192)
        self.assertGreaterEqual(segment["bytes"], sum(shares.values()))
        # Another one, and the same dict: his own share.
        self.assertAlmostEqual(self.fill(12346, "b")[0], written, delta=2)
        before.set("c", b"y" * 50_000)
        shares, _ = self.shares()
        self.assertGreater(shares[0], 50_000)
        # What goes makes room for who wrote it, whoever takes it away; and so it is for the next daemon.
        for number in range(10):
            before.op("delete", key_argument(f"a{number}"))
        self.assertEqual(self.fill(12345, "a again")[0], 10)
        kept, _ = self.shares()
        before.store.session.close()
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        again, _ = self.shares()
        for uid in (12345, 12346):
            self.assertAlmostEqual(again[uid], kept[uid], delta=1024)  # but for what sessions had
        self.assertEqual(self.fill(12345, "a third time")[0], 0)
        cleared = self.ours()
        cleared.op("clear")
        self.assertEqual(self.fill(12345, "a at last")[0], written)

    def test_arrays_are_their_makers(self):
        script = """
session = Session(sys.argv[1])
made = []
try:
    while True:
        made.append(Store(session).open("array", f"array {len(made)}", group="root", typecode="i64", length=10_000, target=len(made) + 1))
except Failed as failed:
    print(len(made), failed.code)
    made[0].delete()
    Store(session).open("array", "in its place", group="root", typecode="i64", length=10_000, target=50)
"""
        said = as_user(12345, 12345, [self.gid], script, self.daemon.socket)
        self.assertEqual(said, f"{self.BOUND // 80_000} store_full")

    def test_a_full_segment_names_another_bound(self):
        d = Store(self.daemon.session()).open("dict", "mine")
        with self.assertRaises(Failed) as caught:
            for number in range(10_000):
                d.set(number, b"x" * 10_000)
        self.assertEqual(caught.exception.code, "store_full")
        self.assertIn("store_max_bytes", caught.exception.detail)
        d.store.session.close()


@unittest.skipUnless(os.geteuid() == 0, "needs root: becomes other users")
class Users(StoreStory):
    config = 'socket_mode = "0666"'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.chmod(cls.daemon.directory, 0o755)

    OPEN = """
session = Session(sys.argv[1])
try:
    print(Store(session).open(**json.loads(sys.argv[2])).about["created"])
except Failed as failed:
    print(failed.code, failed.detail)
"""

    def as_other(self, options, uid=12345, groups=()):
        return as_user(uid, uid, list(groups), self.OPEN, self.daemon.socket, __import__("json").dumps(options))

    def test_another_user_cannot_learn_that_an_object_exists(self):
        made = self.store.open("dict", "mine")
        absent = self.as_other({"object": made.id.rsplit("-")[0] + "-999"})
        present = self.as_other({"object": made.id})
        self.assertEqual(absent.replace("-999", ""), present.replace("-" + str(made.number), ""))
        self.assertTrue(present.startswith("unknown_object"))
        self.assertTrue(self.as_other({"type": "dict", "name": "mine", "create": "never"}).startswith("unknown_object"))
        self.assertEqual(self.as_other({"type": "dict", "name": "mine", "create": "exclusive"}), "True")  # their own
        listed = as_user(12345, 12345, [], """
session = Session(sys.argv[1])
print([row["name"] for row in session.ask("objects")["objects"]], session.ask("locks")["locks"])
""", self.daemon.socket)
        self.assertEqual(listed, "['mine'] []")
        self.assertEqual([row["uid"] for row in self.store.session.ask("objects", {"name": "mine"})["objects"]], [0])

    def test_a_group_shares_what_is_made_for_it(self):
        group = "daemon"  # every system has it
        gid = __import__("grp").getgrnam(group).gr_gid
        shared = {"type": "dict", "name": "ours", "group": group}
        self.refused("unknown_object", self.store.session.ask, "object_open", shared, target=1)  # root is no member
        self.assertTrue(self.as_other(shared).startswith("unknown_object"))
        self.assertEqual(self.as_other(shared, 12345, [gid]), "True")
        self.assertEqual(self.as_other(shared, 12346, [gid]), "False")
        self.assertEqual([row["name"] for row in self.store.session.ask("objects", {"name": "ours"})["objects"]], [])

    def test_the_file_is_the_daemons_alone(self):
        self.store.open("dict")
        folder = self.daemon.socket + ".store"
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        for name in os.listdir(folder):
            self.assertEqual(os.stat(os.path.join(folder, name)).st_mode & 0o777, 0o600, name)


if __name__ == "__main__":
    unittest.main()
