#!/usr/bin/python3
"""Locks, semaphores and conditions of the shared store, between sessions that wait, time out, give up, and die."""

import os
import signal
import threading
import time
import unittest

from story import Story, binaries, eventually
from store import QUIET, Int
from sync import FOR_EVER, TRY, Child, Party, lock_rows


class WaitStory(Story):
    pools = []

    def party(self, **hello):
        party = Party(self.daemon, **hello)
        self.addCleanup(party.close)
        return party

    def child(self, work):
        child = Child(work)
        self.addCleanup(child.kill)
        return child

    def holder(self, kind, name, times=1, **options):
        """A process that has acquired it so often."""

        def hold():
            lock = Party(self.daemon).open(kind, name, **options)
            for _ in range(times):
                lock.acquire(timeout=TRY)

        child = self.child(hold)
        self.assertEqual(child.report(), "ok")
        return child


class Locks(WaitStory):
    def test_sessions_get_it_in_order_of_asking(self):
        first = self.party().open("lock", "queue of five")
        self.assertFalse(first.acquire())
        waiting = []
        for number in range(5):
            lock = self.party().open("lock", "queue of five")
            waiting.append((lock, lock.begin_acquire()))
            eventually(lambda: first.waiters() == number + 1, "it waits")
        holder = first
        for lock, request in waiting:
            self.assertFalse(lock.has_ended(request))
            holder.release()
            lock.end(request)
            holder = lock
        self.assertEqual(holder.is_free(), (0, 0))

    def test_a_try_and_a_timeout(self):
        mine, yours = self.party().open("lock", "t"), self.party().open("lock", "t")
        mine.acquire()
        self.assert_fails("timed_out", yours.acquire, timeout=TRY)
        begun = time.monotonic()
        self.assert_fails("timed_out", yours.acquire, timeout=60)
        self.assertGreaterEqual(time.monotonic() - begun, 0.06)
        self.assertEqual(mine.waiters(), 0)
        mine.release()
        yours.acquire(timeout=TRY)

    def test_many_deadlines_pass_in_their_order(self):
        mine = self.party().open("lock", "d")
        mine.acquire()
        other = self.party()
        lock = other.open("lock", "d")
        late, early, never = (lock.begin_acquire(timeout=ms) for ms in (120, 40, FOR_EVER))
        self.assert_fails("timed_out", lock.end, early)
        self.assertFalse(lock.has_ended(late))
        self.assert_fails("timed_out", lock.end, late)
        mine.release()
        lock.end(never)

    def test_cancelling(self):
        mine = self.party().open("lock", "c")
        mine.acquire()
        other = self.party()
        lock = other.open("lock", "c")
        gives_up, stays = lock.begin_acquire(), lock.begin_acquire()
        other.store.cancel(gives_up)
        self.assert_fails("cancelled", lock.end, gives_up)
        mine.release()
        lock.end(stays)

    def test_who_may_release(self):
        mine, yours = self.party().open("lock", "w"), self.party().open("lock", "w")
        mine.acquire()
        yours.release()  # anyone may, as in multiprocessing
        self.assert_fails("not_owner", mine.release)
        mine, yours = self.party().open("rlock", "r"), self.party().open("rlock", "r")
        mine.acquire()
        mine.acquire()
        self.assert_fails("not_owner", yours.release)
        self.assert_fails("not_owner", mine.release, thread=2)
        self.assert_fails("timed_out", mine.acquire, thread=2, timeout=TRY)
        mine.release()
        self.assert_fails("timed_out", yours.acquire, timeout=TRY)
        mine.release()
        yours.acquire(timeout=TRY)

    def test_bad_requests(self):
        lock = self.party().open("lock")
        self.assert_fails("bad_argument", lock.acquire, thread=-1)
        self.assert_fails("bad_argument", lock.acquire, thread=2**32)
        self.assert_fails("bad_argument", lock.acquire, timeout=-2)
        self.assert_fails("wrong_type", lock.wait)
        self.assert_fails("wrong_type", lock.get_item)
        lock.acquire()
        self.assert_fails("out_of_range", lock.release, units=2)

    def test_a_quiet_release_says_nothing_but_its_errors(self):
        lock = self.party().open("lock", "quiet")
        request = None
        for _ in range(100):
            request = lock.begin_acquire()
            lock.begin("release", Int(1), flags=QUIET)
        lock.end(request)
        refused = lock.begin("release", Int(1), flags=QUIET)
        self.assert_fails("not_owner", lock.end, refused)

    def test_the_hot_path_logs_nothing(self):
        lock = self.party().open("lock", "hot")
        before = len(self.daemon.log())
        requests = []
        for _ in range(2000):
            requests.append(lock.begin_acquire())
            lock.begin("release", Int(1), flags=QUIET)
        for request in requests:
            lock.end(request)
        self.assertEqual(len(self.daemon.log()), before)

    def test_deleting_it_ends_the_waits(self):
        mine = self.party().open("lock", "gone")
        mine.acquire()
        other = self.party().open("lock", "gone")
        request = other.begin_acquire()
        eventually(lambda: mine.waiters() == 1, "it waits")
        mine.delete()
        self.assert_fails("unknown_object", other.end, request)
        self.assert_fails("unknown_object", other.acquire)

    def test_who_holds_and_who_waits_is_shown(self):
        mine = self.party()
        lock = mine.open("rlock", "shown")
        lock.acquire()
        lock.acquire()
        other = self.party()
        waiting = other.open("rlock", "shown")
        request = waiting.begin_acquire(thread=77)
        row = eventually(lambda: next((row for row in [lock_rows(mine.session)["shown"]] if row["waiters"]), None), "it waits")
        self.assertEqual(row["type"], "rlock")
        (holder,), (waiter,) = row["holders"], row["waiters"]
        self.assertEqual((holder["session"], holder["thread"], holder["depth"], holder["pid"]),
                         (mine.session.welcome["session"], 1, 2, os.getpid()))
        self.assertEqual((waiter["session"], waiter["thread"], waiter["for"]), (other.session.welcome["session"], 77, "acquire"))
        lock.release()
        lock.release()
        waiting.end(request)
        waiting.release(thread=77)
        self.assertNotIn("shown", lock_rows(mine.session))


class Deaths(WaitStory):
    def test_a_killed_holder_releases_and_the_next_one_is_told(self):
        for kind, times in (("lock", 1), ("rlock", 3)):
            with self.subTest(kind):
                child = self.holder(kind, f"of the dead {kind}", times)
                lock = self.party().open(kind, f"of the dead {kind}")
                request = lock.begin_acquire()
                self.assertFalse(lock.has_ended(request, within=0.05))
                child.kill()
                self.assertEqual(lock.end(request), 1)
                lock.release()
                self.assertFalse(lock.acquire())

    def test_a_killed_waiter_is_skipped(self):
        mine = self.party().open("lock", "skip")
        mine.acquire()

        def wait():
            Party(self.daemon).open("lock", "skip").begin_acquire()

        child = self.child(wait)
        child.report()
        eventually(lambda: mine.waiters() == 1, "it waits")
        last = self.party().open("lock", "skip")
        request = last.begin_acquire()
        eventually(lambda: mine.waiters() == 2, "both wait")
        child.kill()
        eventually(lambda: mine.waiters() == 1, "the dead one is gone")
        mine.release()
        self.assertEqual(last.end(request), 0)

    def test_a_fork_with_the_socket_does_not_keep_the_lock(self):
        def hold_and_fork():
            party = Party(self.daemon)
            party.open("lock", "inherited").acquire(timeout=TRY)
            heir = os.fork()
            if heir == 0:
                while True:
                    signal.pause()
            return str(heir)

        child = self.child(hold_and_fork)
        heir = int(child.report())
        try:
            lock = self.party().open("lock", "inherited")
            request = lock.begin_acquire()
            self.assertFalse(lock.has_ended(request, within=0.05))
            child.kill()
            self.assertEqual(lock.end(request), 1)
            os.kill(heir, 0)  # it lives, and has the socket
        finally:
            os.kill(heir, signal.SIGKILL)

    def test_what_the_dead_had_asked_for_is_still_done(self):
        queue = self.party().open("queue", "last words")
        def say():
            words = Party(self.daemon).open("queue", "last words")
            for number in range(100):
                words.begin("queue_put", number, Int(FOR_EVER))
        child = self.child(say)
        child.report()
        child.kill()
        self.assertEqual([queue.get_item() for _ in range(100)], list(range(100)))

    def test_closing_the_connection_is_a_death_too(self):
        party = Party(self.daemon)
        party.open("lock", "closed").acquire()
        party.close()
        self.assertTrue(self.party().open("lock", "closed").acquire())

    def test_a_plain_semaphore_is_not_given_back(self):
        child = self.holder("semaphore", "plain", value=1)
        child.kill()
        semaphore = self.party().open("semaphore", "plain")
        self.assert_fails("timed_out", semaphore.acquire, timeout=TRY)
        semaphore.release()
        self.assertFalse(semaphore.acquire())


class Semaphores(WaitStory):
    def test_counting(self):
        semaphore = self.party().open("semaphore", "two", value=2)
        other = self.party().open("semaphore", "two")
        semaphore.acquire()
        semaphore.acquire()
        requests = [other.begin_acquire(), other.begin_acquire()]
        eventually(lambda: semaphore.waiters() == 2, "both wait")
        semaphore.release(units=2)
        for request in requests:
            other.end(request)
        self.assertEqual(semaphore.is_free(), (0, 0))
        semaphore.release(units=5)  # it has no bound
        self.assertEqual(semaphore.is_free()[0], 5)
        self.assert_fails("out_of_range", semaphore.release, units=2**31 - 1)

    def test_a_bounded_one(self):
        semaphore = self.party().open("bounded_semaphore", "bounded", value=2)
        self.assert_fails("out_of_range", semaphore.release)
        child = self.holder("bounded_semaphore", "bounded", 2)
        request = semaphore.begin_acquire()
        self.assertFalse(semaphore.has_ended(request, within=0.05))
        self.assertEqual(len(lock_rows(semaphore.store.session)["bounded"]["holders"]), 1)
        child.kill()
        self.assertEqual(semaphore.end(request), 1)
        self.assertTrue(semaphore.acquire())
        self.assert_fails("timed_out", semaphore.acquire, timeout=TRY)
        self.party().open("bounded_semaphore", "bounded").release(units=2)  # anyone may
        self.assert_fails("out_of_range", semaphore.release)


class Conditions(WaitStory):
    def test_waiting_gives_up_the_lock_however_deep(self):
        mine, yours = self.party().open("condition", "deep"), self.party().open("condition", "deep")
        self.assert_fails("not_owner", mine.wait)
        self.assert_fails("not_owner", mine.notify)
        for _ in range(3):
            mine.acquire()
        request = mine.begin_wait()
        yours.acquire()
        self.assertEqual(yours.notify(), 1)
        self.assertFalse(mine.has_ended(request, within=0.05))
        yours.release()
        self.assertEqual(mine.end(request), [1, 0])
        self.assert_fails("timed_out", yours.acquire, timeout=TRY)
        for _ in range(3):
            mine.release()
        yours.acquire(timeout=TRY)

    def test_some_are_notified_in_order_then_all(self):
        waiting = []
        for _ in range(5):
            condition = self.party().open("condition", "five")
            condition.acquire()
            waiting.append((condition, condition.begin_wait()))
        mine = self.party().open("condition", "five")
        mine.acquire()
        self.assertEqual(mine.notify(2), 2)
        mine.release()
        for condition, request in waiting[:2]:
            self.assertEqual(condition.end(request), [1, 0])
            condition.release()
        for condition, request in waiting[2:]:
            self.assertFalse(condition.has_ended(request))
        mine.acquire()
        self.assertEqual(mine.notify(-1), 3)
        self.assertEqual(mine.notify(-1), 0)
        mine.release()
        for condition, request in waiting[2:]:
            self.assertEqual(condition.end(request), [1, 0])
            condition.release()

    def test_a_timeout_has_the_lock_back(self):
        mine, yours = self.party().open("condition", "late"), self.party().open("condition", "late")
        mine.acquire()
        self.assertEqual(mine.wait(timeout=20), [0, 0])
        self.assertEqual(mine.wait(timeout=TRY), [0, 0])
        request = mine.begin_wait(timeout=20)
        yours.acquire()
        self.assertFalse(mine.has_ended(request, within=0.1))  # late, but the lock is not free
        yours.release()
        self.assertEqual(mine.end(request), [0, 0])
        mine.release()

    def test_cancelling_has_the_lock_back(self):
        party = self.party()
        mine, yours = party.open("condition", "c"), self.party().open("condition", "c")
        mine.acquire()
        request = mine.begin_wait()
        party.store.cancel(request)
        self.assert_fails("cancelled", mine.end, request)
        self.assert_fails("timed_out", yours.acquire, timeout=TRY)
        mine.release()

    def test_two_conditions_of_one_lock(self):
        party = self.party()
        lock = party.open("lock", "shared")
        full = party.open("condition", "full", lock=lock.target)
        party.open("condition", "empty", lock=lock.target)
        empty = self.party().open("condition", "empty")
        full.acquire()
        self.assert_fails("timed_out", empty.acquire, timeout=TRY)
        request = full.begin_wait()
        empty.acquire()
        self.assertEqual(empty.notify(), 0)
        empty.release()
        lock.acquire()
        self.assertEqual(self.party().open("condition", "full").notify(), 1)  # anyone may while a lock is held, as in Python
        lock.release()
        self.assertEqual(full.end(request), [1, 0])
        lock.release()

    def test_a_killed_waiter_is_not_notified(self):
        mine = self.party().open("condition", "k")

        def wait():
            condition = Party(self.daemon).open("condition", "k")
            condition.acquire()
            condition.begin_wait()

        child = self.child(wait)
        child.report()
        other = self.party().open("condition", "k")
        other.acquire()
        request = other.begin_wait()
        child.kill()
        eventually(lambda: len(lock_rows(mine.store.session)["k"]["waiters"]) == 1, "the dead one is gone")
        mine.acquire()
        self.assertEqual(mine.notify(2), 1)
        mine.release()
        self.assertEqual(other.end(request), [1, 0])


class Threads(WaitStory):
    def test_a_sum_under_a_lock_is_exact(self):
        def add():
            party = Party(self.daemon)
            lock, value = party.open("lock", "sum lock"), party.store.open("value", "sum")
            for _ in range(100):
                lock.acquire()
                value.op("value_set", value.op("value_get") + 1)
                lock.release()
            party.close()

        party = self.party()
        party.open("lock", "sum lock")
        total = party.store.open("value", "sum")
        total.op("value_set", 0)
        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(total.op("value_get"), 400)


class Tasks(WaitStory):
    """A task's end releases nothing: what it acquired is its worker's, as in multiprocessing."""

    @classmethod
    def setUpClass(cls):
        modules = [os.path.join(os.path.dirname(binaries()), "modules", f"{name}.so") for name in ("demo", "nested")]
        cls.pools = [{"name": "default", "workers": 1, "modules": modules}]
        super().setUpClass()

    def test_a_worker_keeps_a_lock_beyond_its_task_until_it_dies(self):
        party = self.party()
        lock = party.open("lock", "kept")
        self.assertTrue(party.session.apply("hold_lock", ["kept", True]))
        self.assert_fails("timed_out", lock.acquire, timeout=TRY)
        (worker,) = self.daemon.workers()
        self.assertEqual([holder["pid"] for holder in lock_rows(party.session)["kept"]["holders"]], [worker["pid"]])
        self.assertTrue(party.session.apply("hold_lock", ["kept", False]))  # a later task of that worker's
        self.assertFalse(lock.acquire(timeout=TRY))
        lock.release()
        self.assertTrue(party.session.apply("hold_lock", ["kept", True]))
        waiting = lock.begin_acquire()
        os.kill(worker["pid"], signal.SIGKILL)
        self.assertEqual(lock.end(waiting), 1)  # the last one died with it


if __name__ == "__main__":
    unittest.main()
