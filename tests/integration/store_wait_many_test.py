#!/usr/bin/python3
"""Ten thousand who wait, and how fair and how cheap that is."""

import time
import unittest

from story import eventually
from store import QUIET, Int, operation
from store_wait_locks_test import WaitStory
from sync import FOR_EVER, TRY, Party
from wire import SANITIZED, encode

MANY = 2_000 if SANITIZED else 10_000


class Many(WaitStory):
    def begin_many(self, primitive, name, *arguments):
        """As many requests, in few writes; their numbers."""
        session = primitive.store.session
        body = operation(name, primitive.target, *arguments)
        first = session.last_request + 1
        session.last_request += MANY
        session.socket.sendall(b"".join(encode("store", body=body, count=1, request=first + number) for number in range(MANY)))
        return range(first, first + MANY)

    def waiting(self):
        return self.daemon.counter("store_waiting")

    def test_a_lock_goes_through_all_of_them_in_order(self):
        mine, other = self.party().open("lock", "many"), self.party().open("lock", "many")
        mine.acquire()
        requests = self.begin_many(other, "acquire", Int(1), Int(FOR_EVER))
        eventually(lambda: self.waiting() == MANY, "all wait")
        self.assertEqual(mine.waiters(), MANY)
        mine.release()
        for request in requests:
            reply = other.store.session.receive("store_reply", "error")
            self.assertEqual((reply.op, reply.request), ("store_reply", request))
            other.begin("release", Int(1), flags=QUIET)
        eventually(lambda: mine.is_free() == (1, 0), "all had it")

    def test_an_event_wakes_all_of_them_while_others_are_served(self):
        event = self.party().open("event", "many waits")
        requests = self.begin_many(event, "event_wait", Int(FOR_EVER))
        eventually(lambda: self.waiting() == MANY, "all wait")
        other = self.party().open("event", "many waits")
        other.op("event_set")
        other.op("event_clear")
        self.assertEqual([event.store.session.receive("store_reply").request for _ in requests], list(requests))
        self.assertEqual(self.waiting(), 0)

    def test_a_condition_hands_its_lock_to_all_of_them(self):
        mine, other = (self.party().open("condition", "many threads") for _ in range(2))
        requests = []
        for thread in range(200):
            other.acquire(thread=thread)
            requests.append(other.begin_wait(thread=thread))
        mine.acquire()
        self.assertEqual(mine.notify(-1), 200)
        mine.release()
        for thread, request in enumerate(requests):
            self.assertEqual(other.end(request), [1, 0])
            other.release(thread=thread)

    def test_their_deadlines_pass(self):
        mine, other = self.party().open("lock", "d"), self.party().open("lock", "d")
        mine.acquire()
        requests = self.begin_many(other, "acquire", Int(1), Int(100))
        late = {other.store.session.receive("error").request for _ in requests}
        self.assertEqual(late, set(requests))
        self.assertEqual(self.waiting(), 0)

    def test_they_are_forgotten_with_their_session(self):
        mine, other = self.party(), self.party()
        lock = mine.open("lock", "f")
        lock.acquire()
        self.begin_many(other.open("lock", "f"), "acquire", Int(1), Int(FOR_EVER))
        eventually(lambda: self.waiting() == MANY, "all wait")
        other.close()
        eventually(lambda: self.waiting() == 0, "they are forgotten")
        lock.release()

    def test_many_locks_of_one_session_are_released_with_it(self):
        party = Party(self.daemon)
        locks = [party.open("lock", f"l{number}") for number in range(500)]
        for lock in locks:
            lock.begin("acquire", Int(1), Int(TRY), flags=QUIET)
        locks[0].is_free()
        party.close()
        other = self.party()
        for number in range(500):
            self.assertTrue(other.open("lock", f"l{number}").acquire())

    def test_who_only_waits_costs_no_time(self):
        mine = self.party().open("lock", "idle")
        mine.acquire()
        others = [self.party().open("lock", "idle") for _ in range(20)]
        requests = [(other, other.begin_acquire()) for other in others]
        eventually(lambda: mine.waiters() == 20, "all wait")

        def switches():
            with open(f"/proc/{self.daemon.process.pid}/status") as status:
                return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

        # The supervisor's other timers are its own affair: none is due in an idle daemon.
        eventually(lambda: (before := switches(), time.sleep(0.3), switches() - before <= 2)[2], "it sleeps")
        for other, request in requests:
            other.store.cancel(request)


if __name__ == "__main__":
    unittest.main()
