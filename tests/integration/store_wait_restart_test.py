#!/usr/bin/python3
"""What those who hold and wait see of a daemon that is killed: the next one within the grace, and after it."""

import signal
import unittest

from story import Daemon, eventually
from store import Int
from store_wait_locks_test import WaitStory
from sync import FOR_EVER, TRY, Party, lock_rows


OPTIONS = {"barrier": {"parties": 2}}


class Restart(WaitStory):
    grace_ms = 60_000

    @classmethod
    def setUpClass(cls):
        pass

    def setUp(self):
        self.daemon = Daemon(f"session_grace = \"{self.grace_ms}ms\"", pools=self.pools)
        self.daemon.start()
        self.addCleanup(self.daemon.__exit__, None)

    def restart(self):
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()

    def resume(self, party, kinds):
        """The same session with the new daemon, and its objects opened again."""
        again = self.party(resume=party.session.welcome["token"])
        again.session.last_request = party.session.last_request
        return again, [again.open(kind, name, **OPTIONS.get(kind, {})) for kind, name in kinds]

    def repeat(self, lock, request, name, *arguments):
        """Sends a request again that was not answered."""
        session = lock.store.session
        last, session.last_request = session.last_request, request - 1
        self.assertEqual(lock.begin(name, *arguments), request)
        session.last_request = last
        return request


class WithinTheGrace(Restart):
    def test_a_lock_is_still_held_and_whoever_waited_waits(self):
        mine, other = self.party(), self.party()
        mine.open("rlock", "a").acquire()
        waiting = other.open("rlock", "a")
        request = waiting.begin_acquire()
        eventually(lambda: lock_rows(mine.session)["a"]["waiters"], "it waits")
        self.restart()
        stranger = self.party().open("rlock", "a")
        self.assert_fails("timed_out", stranger.acquire, timeout=TRY)
        other, (waiting,) = self.resume(other, [("rlock", "a")])
        self.assertTrue(other.session.welcome["resumed"])
        self.repeat(waiting, request, "acquire", Int(1), Int(FOR_EVER))
        self.assertFalse(waiting.has_ended(request, within=0.05))
        mine, (lock,) = self.resume(mine, [("rlock", "a")])
        lock.release()
        self.assertEqual(waiting.end(request), 0)

    def test_what_was_done_is_not_done_again(self):
        mine = self.party()
        queue = mine.open("queue", "q")
        lock = mine.open("lock", "l")
        put = queue.begin("queue_put", "once", Int(FOR_EVER))
        queue.end(put)
        acquired = lock.begin_acquire()
        lock.end(acquired)
        self.restart()
        mine, (queue, lock) = self.resume(mine, [("queue", "q"), ("lock", "l")])
        queue.end(self.repeat(queue, put, "queue_put", "once", Int(FOR_EVER)))  # as if its answer had been lost
        lock.end(self.repeat(lock, acquired, "acquire", Int(1), Int(FOR_EVER)))
        self.assertEqual(queue.op("queue_state")[0], 1)
        self.assertEqual(queue.get_item(), "once")
        lock.release()
        self.assert_fails("not_owner", lock.release)

    def test_an_item_that_may_have_been_taken_is_not_taken_twice(self):
        mine = self.party()
        queue = mine.open("queue", "q")
        queue.put(1)
        queue.put(2)
        got = queue.begin("queue_get", Int(FOR_EVER))
        self.assertEqual(queue.end(got), 1)
        self.restart()
        mine, (queue,) = self.resume(mine, [("queue", "q")])
        self.assert_fails("outcome_unknown", queue.end, self.repeat(queue, got, "queue_get", Int(FOR_EVER)))
        self.assertEqual(queue.get_item(), 2)

    def test_a_notification_is_not_lost(self):
        mine, other = self.party(), self.party()
        waiting, condition = other.open("condition", "c"), mine.open("condition", "c")
        waiting.acquire()
        request = waiting.begin_wait()
        condition.acquire()
        self.assertEqual(condition.notify(), 1)
        self.restart()
        mine, (condition,) = self.resume(mine, [("condition", "c")])
        condition.release()
        other, (waiting,) = self.resume(other, [("condition", "c")])
        self.assertEqual(waiting.end(self.repeat(waiting, request, "condition_wait", Int(1), Int(FOR_EVER))), [1, 0])
        waiting.release()

    def test_an_event_and_a_barrier_go_on(self):
        mine, other = self.party(), self.party()
        event, barrier = other.open("event", "e"), other.open("barrier", "b", parties=2)
        waits, arrives = event.begin("event_wait", Int(FOR_EVER)), barrier.begin("barrier_wait", Int(FOR_EVER))
        eventually(lambda: len(lock_rows(mine.session)) == 2, "both wait")
        self.restart()
        mine = self.party()
        my_event, my_barrier = mine.open("event", "e"), mine.open("barrier", "b", parties=2)
        my_event.op("event_set")
        my_event.op("event_clear")
        self.assertEqual(my_barrier.end(my_barrier.begin("barrier_wait", Int(FOR_EVER))), [1, 0])
        other, (event, barrier) = self.resume(other, [("event", "e"), ("barrier", "b")])
        self.assertIsNone(event.end(self.repeat(event, waits, "event_wait", Int(FOR_EVER))))
        self.assertEqual(barrier.end(self.repeat(barrier, arrives, "barrier_wait", Int(FOR_EVER))), [0, 0])

    def test_a_token_resumes_once_and_for_its_user_alone(self):
        mine = self.party()
        mine.open("lock", "l").acquire()
        self.assertFalse(self.party(resume=mine.session.welcome["token"]).session.welcome.get("resumed", False))  # it lives
        self.restart()
        again, _ = self.resume(mine, [("lock", "l")])
        self.assertTrue(again.session.welcome["resumed"])
        self.assertFalse(self.party(resume=mine.session.welcome["token"]).session.welcome.get("resumed", False))
        self.assertFalse(self.party(resume="0" * 32).session.welcome.get("resumed", False))
        again.close()
        self.assertTrue(self.party().open("lock", "l").acquire())


class AfterTheGrace(Restart):
    grace_ms = 300

    def test_leases_break(self):
        mine = self.party()
        mine.open("lock", "l").acquire()
        semaphore = mine.open("bounded_semaphore", "s", value=1)
        semaphore.acquire()
        barrier = self.party().open("barrier", "b", parties=2)
        barrier.begin("barrier_wait", Int(FOR_EVER))
        eventually(lambda: "b" in lock_rows(mine.session), "it waits")
        self.restart()
        other = self.party()
        lock = other.open("lock", "l")
        self.assertTrue(lock.acquire())  # waits for the end of the grace
        self.assertTrue(other.open("bounded_semaphore", "s", value=1).acquire())
        barrier = other.open("barrier", "b", parties=2)
        eventually(lambda: barrier.op("barrier_state")[2] == 1, "it is broken")
        self.assertFalse(self.party(resume=mine.session.welcome["token"]).session.welcome.get("resumed", False))


if __name__ == "__main__":
    unittest.main()
