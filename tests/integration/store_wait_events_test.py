#!/usr/bin/python3
"""Events, barriers and queues of the shared store, between sessions that wait, time out, give up, and die."""

import threading
import unittest

from story import eventually
from store import Int
from store_wait_locks_test import WaitStory
from sync import FOR_EVER, TRY, Party, lock_rows


class Events(WaitStory):
    def test_setting_lets_everybody_go_on(self):
        waiting = []
        for _ in range(3):
            event = self.party().open("event", "e")
            waiting.append((event, event.begin("event_wait", Int(FOR_EVER))))
        mine = self.party().open("event", "e")
        self.assertEqual(mine.op("event_is_set"), 0)
        self.assert_fails("timed_out", mine.op, "event_wait", Int(TRY))
        self.assert_fails("timed_out", mine.op, "event_wait", Int(20))
        eventually(lambda: len(lock_rows(mine.store.session)["e"]["waiters"]) == 3, "all wait")
        mine.op("event_set")
        mine.op("event_clear")  # and nobody misses it
        for event, request in waiting:
            self.assertIsNone(event.end(request))
        self.assert_fails("timed_out", mine.op, "event_wait", Int(TRY))
        mine.op("event_set")
        mine.op("event_set")
        self.assertIsNone(mine.op("event_wait", Int(FOR_EVER)))
        self.assertEqual(mine.op("event_is_set"), 1)

    def test_cancelling(self):
        party = self.party()
        event = party.open("event", "c")
        request = event.begin("event_wait", Int(FOR_EVER))
        party.store.cancel(request)
        self.assert_fails("cancelled", event.end, request)


class Barriers(WaitStory):
    def barriers(self, name, count, **options):
        return [self.party().open("barrier", name, **options) for _ in range(count)]

    @staticmethod
    def arrive(barrier, timeout=FOR_EVER):
        return barrier.begin("barrier_wait", Int(timeout))

    def state(self, barrier):
        return barrier.op("barrier_state")

    def test_three_pass_together_again_and_again(self):
        three = self.barriers("three", 3, parties=3)
        for _ in range(3):
            requests = [self.arrive(three[0])]
            eventually(lambda: self.state(three[2]) == [3, 1, 0], "one waits")
            requests.append(self.arrive(three[1]))
            eventually(lambda: self.state(three[2]) == [3, 2, 0], "two wait")
            requests.append(self.arrive(three[2]))
            self.assertEqual([barrier.end(request) for barrier, request in zip(three, requests)], [[0, 0], [1, 0], [2, 0]])

    def test_the_last_one_runs_the_action_before_the_others_go_on(self):
        first, last = self.barriers("action", 2, parties=2, action=True)
        waits = self.arrive(first)
        eventually(lambda: self.state(last)[1] == 1, "the first waits")
        self.assertEqual(last.end(self.arrive(last)), [1, 1])
        self.assertFalse(first.has_ended(waits, within=0.05))
        self.assert_fails("broken", first.op, "barrier_acted", Int(1))
        last.op("barrier_acted", Int(1))
        self.assertEqual(first.end(waits), [0, 0])
        waits = self.arrive(first)
        eventually(lambda: self.state(last)[1] == 1, "the first waits")
        self.assertEqual(last.end(self.arrive(last)), [1, 1])
        last.op("barrier_acted", Int(0))  # it failed
        self.assert_fails("broken", first.end, waits)
        self.assertEqual(self.state(first), [2, 0, 1])

    def test_what_breaks_it(self):
        def times_out(barrier):
            self.assert_fails("broken", barrier.end, self.arrive(barrier, timeout=20))

        def tries(barrier):
            self.assert_fails("broken", barrier.end, self.arrive(barrier, timeout=TRY))

        def cancels(barrier):
            request = self.arrive(barrier)
            barrier.store.cancel(request)
            self.assert_fails("broken", barrier.end, request)

        def aborts(barrier):
            barrier.op("barrier_abort")

        def resets(barrier):
            barrier.op("barrier_reset")

        def dies(barrier):
            def wait():
                self.arrive(Party(self.daemon).open("barrier", "breaks", parties=9))

            child = self.child(wait)
            child.report()
            eventually(lambda: self.state(barrier)[1] == 2, "the child waits too")
            child.kill()

        one, other = self.barriers("breaks", 2, parties=9)
        for breaks in (times_out, tries, cancels, aborts, resets, dies):
            with self.subTest(breaks.__name__):
                waits = self.arrive(one)
                eventually(lambda: self.state(other)[1] == 1, "one waits")
                breaks(other)
                self.assert_fails("broken", one.end, waits)
                if breaks is not resets:
                    self.assertEqual(self.state(other), [9, 0, 1])
                    self.assert_fails("broken", one.end, self.arrive(one))
                    other.op("barrier_reset")
                self.assertEqual(self.state(other), [9, 0, 0])

    def test_the_death_of_the_one_who_acts_breaks_it(self):
        barrier = self.barriers("actor", 1, parties=2, action=True)[0]
        waits = self.arrive(barrier)

        def act():
            mine = Party(self.daemon).open("barrier", "actor", parties=2)
            return str(mine.end(self.arrive(mine)))

        child = self.child(act)
        self.assertEqual(child.report(), "[1, 1]")
        child.kill()
        self.assert_fails("broken", barrier.end, waits)


class Queues(WaitStory):
    def test_items_come_in_order_and_to_whom_waited_first(self):
        getters = []
        for number in range(3):
            queue = self.party().open("queue", "q")
            getters.append((queue, queue.begin("queue_get", Int(FOR_EVER))))
            eventually(lambda: len(lock_rows(queue.store.session)["q"]["waiters"]) == number + 1, "it waits")
        mine = self.party().open("queue", "q")
        for item in ({"a": 1}, b"bytes", None):
            mine.put(item)
        self.assertEqual([queue.end(request) for queue, request in getters], [{"a": 1}, b"bytes", None])
        self.assert_fails("timed_out", mine.get_item, timeout=TRY)
        self.assert_fails("timed_out", mine.get_item, timeout=20)

    def test_a_full_one_makes_puts_wait(self):
        queue, other = self.party().open("queue", "two", maxsize=2), self.party().open("queue", "two")
        queue.put(0)
        queue.put(1)
        self.assert_fails("timed_out", queue.put, 9, timeout=TRY)
        self.assert_fails("timed_out", queue.put, 9, timeout=20)
        requests = [queue.begin("queue_put", number, Int(FOR_EVER)) for number in (2, 3, 4)]
        eventually(lambda: len(lock_rows(other.store.session)["two"]["waiters"]) == 3, "all wait")
        self.assertEqual(other.op("queue_state"), [2, 2, 2])
        queue.store.cancel(requests[1])
        self.assert_fails("cancelled", queue.end, requests[1])
        self.assertEqual([other.get_item() for _ in range(4)], [0, 1, 2, 4])
        for request in (requests[0], requests[2]):
            self.assertIsNone(queue.end(request))

    def test_one_that_is_held_for_a_reader_makes_everybody_wait(self):
        queue, reader, other = (self.party().open("queue", "held", maxsize=1) for _ in range(3))
        gets = queue.begin("queue_get", Int(FOR_EVER))
        eventually(lambda: lock_rows(reader.store.session)["held"]["waiters"], "it waits")
        reader.op("hold", Int(FOR_EVER))
        puts = other.begin("queue_put", "late", Int(FOR_EVER))
        self.assertFalse(other.has_ended(puts, within=0.05))
        self.assertFalse(queue.has_ended(gets))
        reader.op("unhold")
        other.end(puts)
        self.assertEqual(queue.end(gets), "late")

    def test_a_large_item_goes_through_the_arena(self):
        queue = self.party().open("queue", "large")
        item = bytes(range(256)) * 200
        request = queue.begin("queue_get", Int(FOR_EVER))
        self.party().open("queue", "large").put(item)
        self.assertEqual(queue.end(request), item)

    def test_a_killed_getter_takes_nothing_with_it(self):
        queue = self.party().open("queue", "k")

        def wait():
            Party(self.daemon).open("queue", "k").begin("queue_get", Int(FOR_EVER))

        child = self.child(wait)
        child.report()
        eventually(lambda: "k" in lock_rows(queue.store.session), "it waits")
        child.kill()
        eventually(lambda: "k" not in lock_rows(queue.store.session), "it is forgotten")
        queue.put("kept")
        self.assertEqual(queue.get_item(), "kept")

    def test_joining(self):
        queue = self.party().open("joinable_queue", "j")
        queue.op("queue_join", Int(FOR_EVER))  # nothing to wait for
        for number in range(3):
            queue.put(number)
        self.assert_fails("timed_out", queue.op, "queue_join", Int(TRY))
        request = queue.begin("queue_join", Int(FOR_EVER))
        other = self.party().open("joinable_queue", "j")
        for _ in range(3):
            other.get_item()
            self.assertFalse(queue.has_ended(request))
            other.op("task_done")
        self.assertIsNone(queue.end(request))
        self.assert_fails("out_of_range", other.op, "task_done")

    def test_producers_and_consumers_lose_nothing(self):
        def produce(first):
            party = Party(self.daemon)
            queue = party.open("queue", "busy", maxsize=3)
            for number in range(first, first + 100):
                queue.put(number)
            party.close()

        def consume(into):
            party = Party(self.daemon)
            queue = party.open("queue", "busy", maxsize=3)
            while (item := queue.get_item()) is not None:
                into.append(item)
            party.close()

        mine = self.party().open("queue", "busy", maxsize=3)
        got = [[], [], []]
        consumers = [threading.Thread(target=consume, args=(into,)) for into in got]
        producers = [threading.Thread(target=produce, args=(100 * number,)) for number in range(3)]
        for thread in consumers + producers:
            thread.start()
        for thread in producers:
            thread.join()
        for _ in consumers:
            mine.put(None)
        for thread in consumers:
            thread.join()
        self.assertEqual(sorted(sum(got, [])), list(range(300)))
        for numbers in got:
            for first in range(0, 300, 100):  # of each producer in its order
                ours = [number for number in numbers if first <= number < first + 100]
                self.assertEqual(ours, sorted(ours))


if __name__ == "__main__":
    unittest.main()
