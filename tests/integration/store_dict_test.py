#!/usr/bin/python3
"""Dicts and namespaces of the shared store: every operation, batches, time to live, pages, watching."""

import struct
import time
import unittest


from story import Failed, Story, eventually
from store import BYTES, F64, I64, JSON, QUIET, Int, Raw, Store, Value, argument, items_argument, key_argument, operation, unkey


def i64(number):
    return Value(struct.pack("<q", number), I64)


def f64(number):
    return Value(struct.pack("<d", number), F64)


class StoreStory(Story):
    def setUp(self):
        self.store = Store(self.session())

    def refused(self, code, call, *arguments, **options):
        return self.assert_fails(code, call, *arguments, **options)


class Dicts(StoreStory):
    def test_an_entry_is_set_read_changed_and_deleted(self):
        d = self.store.open("dict")
        self.assertIsNone(d.get("a"))
        self.assertEqual(d.op("contains", key_argument("a")), 0)
        d.set("a", {"x": [1, 2.5, None]})
        d.set("b", b"\x00\xff")
        self.assertEqual(d.get("a"), {"x": [1, 2.5, None]})
        self.assertEqual(d.get("b"), b"\x00\xff")
        self.assertEqual((d.op("contains", key_argument("a")), d.op("len")), (1, 2))
        d.set("a", 2)
        self.assertEqual(d.get("a"), 2)
        d.op("delete", key_argument("a"))
        self.assertIsNone(d.get("a"))
        self.assertEqual(self.refused("unknown_key", d.op, "delete", key_argument("a")).detail, 'key: "a"')
        self.assertEqual(d.op("pop", key_argument("b")), b"\x00\xff")
        self.refused("unknown_key", d.op, "pop", key_argument("b"))
        self.assertEqual(d.op("len"), 0)

    def test_keys_of_all_kinds_are_apart(self):
        d = self.store.open("dict")
        keys = [None, 0, 1, -1, 2**80, 1.5, "", "1", b"1", (1, "a"), ((), (None,)), "x" * 1000]
        for number, name in enumerate(keys):
            d.set(name, number)
        for number, name in enumerate(keys):
            self.assertEqual(d.get(name), number)
        self.assertEqual(d.get(True), 2)  # 1, 1.0 and true are one key
        self.assertEqual(d.get(1.0), 2)
        self.assertEqual(d.op("len"), len(keys))

    def test_keys_without_canonical_form_are_refused(self):
        d = self.store.open("dict")
        before = d.stat()
        for raw in (b"", b"\x01\x00\x00\x05", b"\x01\x01", b"\x02" + struct.pack("<d", 2.0), b"\x03\xff", b"\x09x",
                    b"\x05\x01\x00\x00\x00", b"\x03" + b"x" * 1024):
            self.refused("bad_key", d.op, "set", Raw(argument(32, raw)), 1)
        self.assertEqual(d.stat(), before)

    def test_items_come_in_the_order_of_insertion_and_leave_last_first(self):
        d = self.store.open("dict")
        for name in "zebra":
            d.set(name, name)
        d.set("e", "again")  # keeps its place
        self.assertEqual(list(d.items().items()), [("z", "z"), ("e", "again"), ("b", "b"), ("r", "r"), ("a", "a")])
        self.assertEqual(d.op("pop_item"), ["a", "a"])
        self.assertEqual(d.op("pop_item"), ["r", "r"])
        d.op("clear")
        self.assertEqual(d.items(), {})
        self.refused("unknown_key", d.op, "pop_item")

    def test_get_or_set(self):
        d = self.store.open("dict")
        self.assertEqual(d.op("get_or_set", key_argument("a"), 1), [1, 1])
        self.assertEqual(d.op("get_or_set", key_argument("a"), 2), [1, 0])

    def test_compare_and_set(self):
        d = self.store.open("dict")
        nothing = Value(b"", 0)
        d.op("compare_and_set", key_argument("a"), nothing, 1)
        self.refused("changed", d.op, "compare_and_set", key_argument("a"), nothing, 2)
        self.refused("changed", d.op, "compare_and_set", key_argument("a"), Value(b"1", BYTES), 2)
        self.refused("changed", d.op, "compare_and_set", key_argument("b"), 1, 2)
        d.op("compare_and_set", key_argument("a"), 1, 2)
        self.assertEqual(d.get("a"), 2)

    def test_incr_of_every_kind_of_number(self):
        d = self.store.open("dict")
        incr = lambda name, by: d.op("incr", key_argument(name), by)
        self.assertEqual([incr("i", i64(5)), incr("i", i64(-7)), incr("i", 1)], [5, -2, -1])
        self.assertEqual([incr("j", 1), incr("j", i64(2)), incr("j", 0.5)], [1, 3, 3.5])
        self.assertEqual([incr("f", f64(0.5)), incr("f", 1)], [0.5, 1.5])
        d.set("text", "x")
        d.set("max", i64(2**63 - 1))
        d.set("huge", 1e308)
        before = d.stat()["version"]
        self.refused("wrong_type", incr, "text", 1)
        self.refused("wrong_type", incr, "i", 0.5)
        self.refused("wrong_type", incr, "new", "x")
        self.refused("out_of_range", incr, "max", i64(1))
        self.refused("out_of_range", incr, "huge", 1e308)
        self.assertEqual(d.stat()["version"], before)
        self.assertIsNone(d.get("new"))

    def test_large_values_go_through_the_arenas(self):
        d = self.store.open("dict")
        segment = self.store.session.open_arena(8 << 20)
        data = bytes(range(256)) * 4096  # 1 MiB
        self.store.session.up[segment][64:64 + len(data)] = data
        d.set("big", Value(None, BYTES, place=(segment, 64, len(data))))
        self.assertEqual(d.get("big"), data)
        self.assertEqual(d.items(), {"big": data})
        self.assertEqual(d.op("pop", key_argument("big")), data)
        self.refused("body_too_large", d.set, "a", b"x" * 65537)
        self.refused("body_too_large", d.set, "a", Value(None, BYTES, place=(segment, 64, (8 << 20) + 1)))
        self.refused("bad_message", d.set, "a", Value(None, BYTES, place=(segment, (16 << 20) - 64, 100)))  # behind its end
        self.refused("bad_message", d.set, "a", Value(None, BYTES, place=(9, 64, 100000)))
        self.refused("bad_message", d.set, "a", Value(None, BYTES, place=(segment, 60, 100000)))
        self.assertEqual(d.op("len"), 0)

    def test_many_entries_grow_the_table_and_are_all_there(self):
        d = self.store.open("dict")
        count = 60_000
        requests = []
        for start in range(0, count, 500):
            requests.append(self.store.start([operation("set", d.target, key_argument(n), n) for n in range(start, start + 500)]))
        for request in requests:
            self.store.results(request)
        self.assertEqual(d.op("len"), count)
        self.assertEqual(d.items(), {n: n for n in range(count)})
        self.assertEqual(d.op("pop_item"), [count - 1, count - 1])
        d.op("clear")
        self.assertEqual((d.op("len"), d.items()), (0, {}))
        d.set("a", 1)
        self.assertEqual(d.items(), {"a": 1})

    def test_a_quiet_set_is_answered_only_if_it_fails(self):
        d = self.store.open("dict")
        for number in range(10):
            d.begin("set", key_argument(number), number, flags=QUIET)
        failing = d.begin("delete", key_argument("nothing"), flags=QUIET)
        self.assertEqual(d.op("len"), 10)
        self.assertEqual([(frame.op, frame.request) for frame in self.store.session.frames], [("error", failing)])


class Batches(StoreStory):
    def test_all_or_nothing(self):
        d = self.store.open("dict")
        d.set("ada", 42)
        with self.assertRaises(Failed) as caught:
            self.store.run(operation("incr", d.target, key_argument("ada"), i64(-10)),
                           operation("set", d.target, key_argument("new"), 1),
                           operation("pop", d.target, key_argument("bob")))
        self.assertEqual((caught.exception.code, caught.exception.head["index"]), ("unknown_key", 2))
        self.assertEqual(d.items(), {"ada": 42})

    def test_later_operations_see_earlier_ones(self):
        d, other = self.store.open("dict"), self.store.open("list")
        results = self.store.run(operation("set", d.target, key_argument("a"), 1),
                                 operation("incr", d.target, key_argument("a"), 1),
                                 operation("get", d.target, key_argument("a")),
                                 operation("list_append", other.target, "x"),
                                 operation("len", other.target),
                                 operation("delete", d.target, key_argument("a")),
                                 operation("get", d.target, key_argument("a")))
        self.assertEqual(results, [[], [2], [2], [], [1], [], []])

    def test_expect_makes_a_replace_if(self):
        d = self.store.open("dict")
        version = d.stat()["version"]
        self.store.run(operation("expect", d.target, Int(version)), operation("set", d.target, key_argument("a"), 1))
        self.refused("changed", self.store.run, operation("expect", d.target, Int(version)),
                     operation("set", d.target, key_argument("a"), 2))
        self.assertEqual(d.get("a"), 1)

    def test_bad_batches(self):
        d, q = self.store.open("dict"), self.store.open("queue")
        self.refused("bad_message", self.store.run)
        self.refused("bad_message", self.store.run, *[operation("len", d.target)] * 1025)
        self.refused("bad_message", self.store.run, operation("len", d.target), operation("queue_get", q.target, Int(0)))
        self.refused("unknown_object", self.store.run, operation("len", d.target), operation("len", 99))
        self.refused("bad_message", self.store.run, operation("len", d.target), operation("", d.target, code=9))
        self.refused("wrong_type", self.store.run, operation("list_append", d.target, 1))
        for broken in (b"", b"\x00" * 7, operation("get", d.target), operation("get", d.target, Int(1)),
                       operation("get", d.target, key_argument("a"), Int(1)), operation("len", d.target) + b"x",
                       operation("set", d.target, key_argument("a"), 1)[:-1],
                       operation("set", d.target, key_argument("a"), Raw(argument(99, b""))),
                       operation("set", d.target, key_argument("a"), Raw(argument(33, b"")))):
            self.refused("bad_message", self.store.results, self.store.start([broken]))

    def test_a_batch_beyond_the_redo_record_is_refused_whole(self):
        objects = [self.store.open("dict") for _ in range(2)]
        operations = [operation("set", objects[n % 2].target, key_argument(n), n) for n in range(1024)]
        try:
            self.store.run(*operations)
        except Failed as failed:
            self.assertEqual(failed.code, "limit_reached")
            self.assertEqual([d.op("len") for d in objects], [0, 0])
        else:
            self.assertEqual([d.op("len") for d in objects], [512, 512])


class TimeToLive(StoreStory):
    def test_an_entry_ends_by_itself(self):
        d = self.store.open("dict")
        d.set("short", 1, 1000)
        d.set("long", 2, 100_000)
        d.set("kept", 3)
        self.assertEqual(d.get("short"), 1)
        eventually(lambda: d.get("short") is None, "the entry expires")
        eventually(lambda: d.op("len") == 2, "it is removed")
        self.assertEqual(d.items(), {"long": 2, "kept": 3})
        self.refused("unknown_key", d.op, "delete", key_argument("short"))

    def test_a_new_value_has_a_new_time(self):
        d = self.store.open("dict")
        d.set("a", 1, 40)
        d.set("a", 2)
        d.set("b", 1, 5000)
        d.op("expire", key_argument("b"), Int(-1))
        d.set("c", 1, 1000)
        d.op("incr", key_argument("c"), 1)
        d.set("d", 1)
        d.op("expire", key_argument("d"), Int(40))
        eventually(lambda: d.op("len") == 2, "c and d expire")
        self.assertEqual(d.items(), {"a": 2, "b": 1})
        self.refused("unknown_key", d.op, "expire", key_argument("c"), Int(40))
        self.refused("bad_argument", d.set, "a", 1, 0)

    def test_an_expired_entry_counts_as_absent(self):
        d = self.store.open("dict")
        d.op("get_or_set", key_argument("a"), 1, Int(30))
        eventually(lambda: d.get("a") is None, "the entry expires")
        self.assertEqual(d.op("get_or_set", key_argument("a"), 2), [2, 1])


class Namespaces(StoreStory):
    def test_names_are_text(self):
        n = self.store.open("namespace")
        n.set("x", 1)
        self.assertEqual(n.get("x"), 1)
        self.refused("bad_key", n.set, 1, 1)
        self.refused("bad_key", n.get, b"x")
        self.assertEqual(n.items(), {"x": 1})
        n.op("delete", key_argument("x"))
        self.refused("unknown_key", n.op, "delete", key_argument("x"))


class Watching(StoreStory):
    SET, DELETED, EXPIRED, OTHER, GONE, LAGGED = range(1, 7)

    def watch(self, target, name=None):
        session = self.store.session
        body = b"" if name is None else key_argument(name)[8:]
        request = session.new_request()
        session.send("watch", target=target, request=request, body=body, count=1 if body else 0)
        reply = session.receive("ok", "error", request=request)
        if reply.op == "error":
            raise Failed(reply.head)
        return request

    def change(self, request):
        frame = self.store.session.receive("changed", request=request)
        (version,) = struct.unpack_from("<Q", frame.body)
        return frame.target, unkey(frame.body[8:]) if frame.count else None, version

    def test_a_dict_tells_of_its_entries(self):
        d = self.store.open("dict")
        all_of_it, one = self.watch(d.target), self.watch(d.target, "a")
        d.set("a", 1)
        d.set("b", 1)
        d.op("delete", key_argument("a"))
        d.op("expire", key_argument("b"), Int(20))
        self.assertEqual([self.change(all_of_it)[:2] for _ in range(5)],
                         [(self.SET, "a"), (self.SET, "b"), (self.DELETED, "a"), (self.SET, "b"), (self.EXPIRED, "b")])
        kind, name, version = self.change(one)
        self.assertEqual((kind, name), (self.SET, "a"))
        kind, name, later = self.change(one)
        self.assertEqual((kind, name), (self.DELETED, "a"))
        self.assertGreater(later, version)
        d.op("clear")
        self.assertEqual(self.change(one)[:2], (self.OTHER, None))
        d.delete()
        self.assertEqual(self.change(one)[0], self.GONE)

    def test_a_watch_ends_by_cancel(self):
        d = self.store.open("dict")
        request = self.watch(d.target)
        self.assertEqual(self.store.cancel(request), 1)
        self.assertEqual(self.store.session.receive("error", request=request).head["code"], "cancelled")
        d.set("a", 1)
        self.assertEqual(self.store.cancel(request), 0)
        self.assertFalse(any(frame.op == "changed" for frame in self.store.session.frames))

    def test_a_slow_watcher_lags_and_hears_of_it(self):
        d = self.store.open("dict", "watched")
        request = self.watch(d.target)
        writer = Store(self.session())
        name = "k" * 1000
        seen = writer.open("dict", "watched")
        for _ in range(12):  # 12,000 changes of 1 KB: more than is kept for anybody
            writer.run(*[operation("set", seen.target, key_argument(name), 1)] * 1000)
        kinds = set()
        while self.LAGGED not in kinds:
            kinds.add(self.change(request)[0])
        writer.run(operation("set", seen.target, key_argument("after"), 1))
        while True:
            kind, name, _ = self.change(request)
            if name == "after":
                break
        self.assertEqual(kind, self.SET)

    def test_bad_watches(self):
        d = self.store.open("dict")
        self.refused("unknown_object", self.watch, 77)
        session = self.store.session
        self.refused("bad_key", session.ask, "watch", target=d.target, body=b"\x09", count=1)
        self.refused("bad_message", session.ask, "watch", target=d.target, body=b"\x00", count=2)


if __name__ == "__main__":
    unittest.main()
