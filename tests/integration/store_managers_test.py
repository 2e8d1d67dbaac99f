#!/usr/bin/python3
"""Every exposed method of Python 3.11's multiprocessing.managers proxies, done with the store's operations: managers.json lists
them, and each has a test here, or a stated difference there."""

import json
import multiprocessing.managers
import os
import queue
import struct
import sys
import unittest

from store_dict_test import StoreStory
from story import Failed
from store import Int, Store, Value, items_argument, key_argument, operation

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "managers.json")) as file:
    LISTED = json.load(file)
DIFFERENCES = LISTED.pop("differences")
LISTED.pop("about")

TESTS = {}


def method(*names):
    """Says which methods a test is for."""
    def keep(test):
        for name in names:
            assert name not in TESTS, name
            TESTS[name] = test.__name__
        return test
    return keep


class Managers(StoreStory):
    def test_the_list_is_that_of_the_module(self):
        for proxy, names in LISTED.items():
            if proxy == "Queue":
                there = multiprocessing.managers.public_methods(queue.Queue())
            else:
                cls = getattr(multiprocessing.managers, proxy)
                there = [*cls._exposed_, *(name for name in vars(cls) if not name.startswith("_")),
                         *(name for name in ("__iadd__", "__imul__", "__enter__", "__exit__") if hasattr(cls, name))]
            if sys.version_info[:2] == (3, 11):
                self.assertEqual(sorted(set(there)), sorted(names), proxy)

    def test_each_method_has_a_test_or_a_difference(self):
        listed = {f"{proxy}.{name}" for proxy, names in LISTED.items() for name in names}
        self.assertEqual(listed - set(TESTS) - set(DIFFERENCES), set())
        self.assertEqual((set(TESTS) | set(DIFFERENCES)) - listed, set())
        self.assertEqual(set(TESTS) & set(DIFFERENCES), set())

    def setUp(self):
        super().setUp()
        self.other = Store(self.session())

    def list(self, *values):
        made = self.store.open("list")
        made.op("list_extend", items_argument(values))
        return made

    def dict(self, **entries):
        made = self.store.open("dict")
        for name, value in entries.items():
            made.set(name, value)
        return made

    # Lists. What needs Python's own equality or order is done on a snapshot, and written back if nothing changed meanwhile.

    def rewrite(self, made, change):
        """A snapshot, changed by the client, put back as one."""
        version = made.stat()["version"]
        values = made.all()
        result = change(values)
        self.store.run(operation("expect", made.target, Int(version)),
                       operation("list_replace", made.target, items_argument(values)))
        return result

    @method("ListProxy.__getitem__", "ListProxy.__setitem__", "ListProxy.__delitem__", "ListProxy.__len__")
    def test_list_items(self):
        made = self.list("a", "b", "c", "d")
        self.assertEqual((made.op("list_get", Int(-1)), made.op("len")), ("d", 4))
        made.op("list_set", Int(0), "A")
        made.op("list_delete", Int(1))
        self.assertEqual(self.store.run(operation("list_slice", made.target, Int(0), Int(2)))[0], [2, "A", "c"])
        made.op("list_set_slice", Int(0), Int(1), items_argument(["x", "y"]))
        made.op("list_delete_slice", Int(2), Int(4))
        self.assertEqual(made.all(), ["x", "y"])
        self.refused("out_of_range", made.op, "list_get", Int(9))

    @method("ListProxy.append", "ListProxy.extend", "ListProxy.__iadd__", "ListProxy.insert", "ListProxy.pop",
            "ListProxy.reverse")
    def test_list_changes(self):
        made = self.list(1)
        made.op("list_append", 2)
        made.op("list_extend", items_argument([3, 4]))
        made.op("list_insert", Int(0), 0)
        self.assertEqual((made.op("list_pop", Int(-1)), made.op("list_pop", Int(0))), (4, 0))
        made.op("list_reverse")
        self.assertEqual(made.all(), [3, 2, 1])

    @method("ListProxy.__add__", "ListProxy.__mul__", "ListProxy.__rmul__", "ListProxy.__contains__", "ListProxy.count",
            "ListProxy.index", "ListProxy.__reversed__")
    def test_list_snapshots(self):
        values = self.list(1, 2, 1).all()
        self.assertEqual((values + [3], values * 2, 2 * values), ([1, 2, 1, 3], [1, 2, 1] * 2, [1, 2, 1] * 2))
        self.assertEqual((2 in values, values.count(1), values.index(2), list(reversed(values))), (True, 2, 1, [1, 2, 1]))

    @method("ListProxy.sort", "ListProxy.remove", "ListProxy.__imul__")
    def test_list_rewrites(self):
        made = self.list(3, 1, 2)
        self.rewrite(made, lambda values: values.sort())
        self.rewrite(made, lambda values: values.remove(2))
        self.rewrite(made, lambda values: values.extend(values))
        self.assertEqual(made.all(), [1, 3, 1, 3])

    # Dicts

    @method("DictProxy.__getitem__", "DictProxy.__setitem__", "DictProxy.__delitem__", "DictProxy.__contains__",
            "DictProxy.__len__", "DictProxy.get")
    def test_dict_entries(self):
        made = self.dict(a=1)
        made.set((1, "b"), 2)
        self.assertEqual((made.get("a"), made.get((1, "b")), made.get("c"), made.op("len")), (1, 2, None, 2))
        self.assertEqual([made.op("contains", key_argument(name)) for name in ("a", "c")], [1, 0])
        made.op("delete", key_argument("a"))
        self.refused("unknown_key", made.op, "delete", key_argument("a"))

    @method("DictProxy.__iter__", "DictProxy.keys", "DictProxy.values", "DictProxy.items", "DictProxy.copy")
    def test_dict_snapshots(self):
        made = self.dict(b=1, a=2)
        self.assertEqual(list(made.items().items()), [("b", 1), ("a", 2)])

    @method("DictProxy.clear", "DictProxy.pop", "DictProxy.popitem", "DictProxy.setdefault", "DictProxy.update")
    def test_dict_changes(self):
        made = self.dict(a=1)
        self.store.run(*[operation("set", made.target, key_argument(name), 2) for name in "bc"])  # update, as one
        self.assertEqual(made.op("get_or_set", key_argument("d"), 4), [4, 1])
        self.assertEqual((made.op("pop", key_argument("b")), made.op("pop_item")), (2, ["d", 4]))
        self.refused("unknown_key", made.op, "pop", key_argument("b"))
        made.op("clear")
        self.assertEqual(made.items(), {})

    # Namespaces, values, arrays

    @method("NamespaceProxy.__getattribute__", "NamespaceProxy.__setattr__", "NamespaceProxy.__delattr__")
    def test_namespace(self):
        made = self.store.open("namespace")
        made.set("x", 10)
        self.assertEqual(made.get("x"), 10)
        made.op("delete", key_argument("x"))
        self.assertIsNone(made.get("x"))

    @method("ValueProxy.get", "ValueProxy.set", "ValueProxy.value")
    def test_value(self):
        made = self.store.open("value", body=b"1", encoding=1)
        made.op("value_set", 2)
        self.assertEqual(made.op("value_get"), 2)

    @method("ArrayProxy.__len__", "ArrayProxy.__getitem__", "ArrayProxy.__setitem__")
    def test_array(self):
        made = self.store.open("array", typecode="i64", length=3)
        made.op("array_set", Int(1), Value(struct.pack("<q", 5), 19))
        self.assertEqual((made.op("len"), made.op("array_get", Int(1))), (3, 5))

    # Queues

    @method("Queue.put", "Queue.get", "Queue.put_nowait", "Queue.get_nowait", "Queue.qsize", "Queue.empty", "Queue.full")
    def test_queue(self):
        made = self.store.open("queue", maxsize=2)
        state = lambda: made.op("queue_state")[:2]
        self.assertEqual(state(), [0, 2])  # empty
        made.op("queue_put", "a", Int(-1))
        made.op("queue_put", "b", Int(0))
        self.assertEqual(state(), [2, 2])  # full
        self.refused("timed_out", made.op, "queue_put", "c", Int(0))
        self.assertEqual([made.op("queue_get", Int(-1)), made.op("queue_get", Int(0))], ["a", "b"])
        self.refused("timed_out", made.op, "queue_get", Int(0))

    @method("Queue.join", "Queue.task_done")
    def test_joinable_queue(self):
        made = self.store.open("joinable_queue", "joined")
        made.op("queue_put", 1, Int(-1))
        waiter = self.other.open("joinable_queue", "joined")
        joining = waiter.begin("queue_join", Int(-1))
        made.op("queue_get", Int(-1))
        self.refused("timed_out", made.op, "queue_join", Int(0))
        made.op("task_done")
        self.assertIsNone(waiter.end(joining))
        self.refused("out_of_range", made.op, "task_done")
        made.delete()

    # Primitives

    @method("AcquirerProxy.acquire", "AcquirerProxy.release", "AcquirerProxy.__enter__", "AcquirerProxy.__exit__")
    def test_acquirers(self):
        for kind in ("lock", "rlock", "semaphore", "bounded_semaphore"):
            made = self.store.open(kind, f"acquirer {kind}")
            other = self.other.open(kind, f"acquirer {kind}")
            self.assertEqual(made.op("acquire", Int(1), Int(-1)), 0)
            self.refused("timed_out", other.op, "acquire", Int(1), Int(0))
            waiting = other.begin("acquire", Int(1), Int(-1))
            made.op("release", Int(1))
            self.assertEqual(other.end(waiting), 0)
            other.op("release", Int(1))
            made.delete()
        self.refused("not_owner", self.store.open("rlock").op, "release", Int(1))
        self.refused("out_of_range", self.store.open("bounded_semaphore").op, "release", Int(1))

    @method("ConditionProxy.acquire", "ConditionProxy.release", "ConditionProxy.wait", "ConditionProxy.notify",
            "ConditionProxy.notify_all", "ConditionProxy.wait_for", "ConditionProxy.__enter__", "ConditionProxy.__exit__")
    def test_condition(self):
        made, other = self.store.open("condition", "cond"), self.other.open("condition", "cond")
        other.op("acquire", Int(7), Int(-1))
        waiting = other.begin("condition_wait", Int(7), Int(-1))  # wait_for is this in a loop
        made.op("acquire", Int(1), Int(-1))
        self.assertEqual(made.op("condition_notify", Int(1), Int(1)), 1)
        self.assertEqual(made.op("condition_notify", Int(1), Int(-1)), 0)
        made.op("release", Int(1))
        self.assertEqual(other.end(waiting), [1, 0])
        self.assertEqual(other.op("condition_wait", Int(7), Int(0)), [0, 0])
        other.op("release", Int(7))
        self.refused("not_owner", made.op, "condition_notify", Int(1), Int(1))
        made.delete()

    @method("EventProxy.is_set", "EventProxy.set", "EventProxy.clear", "EventProxy.wait")
    def test_event(self):
        made, other = self.store.open("event", "event"), self.other.open("event", "event")
        self.assertEqual(made.op("event_is_set"), 0)
        waiting = other.begin("event_wait", Int(-1))
        made.op("event_set")
        self.assertIsNone(other.end(waiting))
        self.assertEqual(made.op("event_is_set"), 1)
        made.op("event_clear")
        self.refused("timed_out", made.op, "event_wait", Int(0))
        made.delete()

    @method("BarrierProxy.wait", "BarrierProxy.abort", "BarrierProxy.reset", "BarrierProxy.__getattribute__",
            "BarrierProxy.parties", "BarrierProxy.n_waiting", "BarrierProxy.broken")
    def test_barrier(self):
        made, other = (store.open("barrier", "barrier", parties=2) for store in (self.store, self.other))
        waiting = other.begin("barrier_wait", Int(-1))
        self.other.session.ask("ping")
        self.assertEqual(made.op("barrier_state"), [2, 1, 0])
        places = {made.op("barrier_wait", Int(-1))[0], other.end(waiting)[0]}
        self.assertEqual(places, {0, 1})
        made.op("barrier_abort")
        self.refused("broken", made.op, "barrier_wait", Int(-1))
        self.assertEqual(made.op("barrier_state"), [2, 0, 1])
        made.op("barrier_reset")
        self.assertEqual(made.op("barrier_state"), [2, 0, 0])
        made.delete()


if __name__ == "__main__":
    unittest.main()
