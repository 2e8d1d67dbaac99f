#!/usr/bin/python3
"""What one user may have at a time: sessions, waiting tasks and bytes, workers, store."""

import json
import os
import unittest

from story import JSON, LAST, Daemon, Failed, eventually, pack
from store import Store
from users import code_of, detail_of, session_of

USER, OTHER, MEMBER = 61001, 61002, 61003
STAFF = 61050  # a group


@unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can become another user")
class Quotas(unittest.TestCase):
    def start(self, quotas, workers=3):
        self.head = 'socket_mode = "0666"\n'
        self.pools = [{"name": "default", "workers": workers}, {"name": "second", "workers": 1}]
        self.daemon = Daemon(self.head + quotas, pools=self.pools)
        os.chmod(self.daemon.directory, 0o711)
        self.daemon.start()
        self.addCleanup(self.daemon.__exit__, None)

    def reload(self, quotas):
        self.daemon.write_config(self.head + quotas, self.pools)
        return self.daemon.ask("reload")

    def session(self, uid, **identity):
        session = session_of(self.daemon, uid, **identity)
        self.addCleanup(session.close)
        return session

    def busy(self, uid):
        return [row for row in self.daemon.workers() if row.get("uid") == uid]

    def test_sessions(self):
        self.start(f'[quota.default]\nsessions = 2\n[quota."@{STAFF}"]\nsessions = 3')
        first, _ = self.session(USER), self.session(USER)
        self.assertEqual(session_of_refused(self.daemon, USER).head["code"], "limit_reached")
        eventually(lambda: self.daemon.counter("sessions_refused_total") == 1, "it is counted")
        self.assertIn(f'rule="quota.default.sessions = 2" uid={USER}', self.daemon.log())
        self.session(OTHER)  # others have theirs
        for _ in range(3):
            self.session(MEMBER, groups=[STAFF])
        for _ in range(4):
            self.session(0)
        first.close()
        eventually(lambda: self.daemon.counter("sessions_open") == 10, "it has ended")
        self.session(USER)
        self.assertIn("quota.default.sessions", self.reload("[quota.default]\nsessions = 3")["changed"])
        self.session(USER)

    def test_a_refused_connection_hears_the_rule(self):
        self.start(f"[quota.{USER}]\nsessions = 1")
        self.session(USER)
        frame = session_of_refused(self.daemon, USER)
        self.assertEqual(frame.head["code"], "limit_reached")
        self.assertEqual(frame.head["detail"], f"quota.{USER}.sessions = 1: user {USER} has 1 connections")

    def test_waiting_tasks_of_all_his_sessions_and_pools(self):
        self.start(f"[quota.{USER}]\nqueued_tasks = 5")
        for pool in ("default", "second"):
            self.daemon.ask("pool_pause", {"pool": pool})
        one, two, other = self.session(USER), self.session(USER), self.session(OTHER)
        kept = one.start("square", 1)
        job = two.start_map("square", [1, 2, 3], pool="second")
        detached = one.apply("square", 2, detached=True)["task"]
        detail = detail_of(two.apply, "square", 4)
        self.assertEqual(detail, f"queue_full: quota.{USER}.queued_tasks = 5: user {USER} has 5 tasks waiting")
        self.assertEqual(code_of(one.map, "square", [1, 2]), "queue_full")
        others = [other.start("square", number) for number in range(20)]  # is not bound by it
        two.ask("cancel", {"task": detached})
        last = two.start("square", 5)
        self.assertIn("5 tasks waiting", detail_of(two.apply, "square", 4))
        for pool in ("default", "second"):
            self.daemon.ask("pool_resume", {"pool": pool})
        self.assertEqual((one.result(kept), two.result(last)), (1, 25))
        self.assertEqual(two.outcomes(job)[0], {0: 1, 1: 4, 2: 9})
        self.assertEqual([other.result(request) for request in others], [number * number for number in range(20)])
        # What has ended leaves room.
        self.assertEqual(one.map("square", range(5))[0][4], 16)

    def test_input_beyond_the_limit_fails_and_no_more(self):
        self.start(f"[quota.{USER}]\nqueued_tasks = 4")
        self.daemon.ask("pool_pause")
        session = self.session(USER)
        request = session.new_request()
        body = pack([json.dumps(number).encode() for number in (1, 2, 3)])
        session.send("map", head={"function": "square"}, body=body, encoding=JSON, count=3, request=request)
        session.send("input", body=body, encoding=JSON, count=3, flags=LAST, request=request)
        outcomes, done = session.outcomes(request)
        self.assertEqual({outcomes[index].code for index in (3, 4, 5)}, {"queue_full"})
        self.assertIn(f"quota.{USER}.queued_tasks = 4", outcomes[3].detail)
        self.assertEqual(done["total"], 6)
        self.daemon.ask("pool_resume")
        self.assertEqual(session.apply("square", 3), 9)

    def test_waiting_bytes(self):
        self.start(f'[quota.{USER}]\nqueued_bytes = "64KiB"')
        self.daemon.ask("pool_pause")
        one, two = self.session(USER), self.session(USER)
        text = "x" * 30_000
        requests = [one.start("echo", text), two.start("echo", text)]
        refused = detail_of(two.apply, "echo", text)
        self.assertIn(f"queue_full: quota.{USER}.queued_bytes = 65536: user {USER} has 60", refused)
        self.daemon.ask("pool_resume")
        self.assertEqual([one.result(requests[0]), two.result(requests[1])], [text, text])
        self.assertEqual(two.apply("echo", text), text)

    def test_beyond_its_slots_a_users_tasks_wait_and_others_go_on(self):
        self.start(f"[quota.{USER}]\nrunning_slots = 1")
        user, other = self.session(USER), self.session(OTHER)
        tasks = [user.apply("sleep", 60, detached=True)["task"] for _ in range(2)]
        second_pool = user.apply("sleep", 60, detached=True, pool="second")["task"]
        urgent = user.apply("sleep", 60, detached=True, priority=5)["task"]
        eventually(lambda: len(self.busy(USER)) == 1, "one runs")
        self.assertEqual(other.map("square", range(100))[0][99], 9801)  # all that is asked of the others is done
        self.assertEqual(other.apply("square", 3, pool="second"), 9)
        self.assertEqual(len(self.busy(USER)), 1)
        ran = []
        while len(ran) < 4:
            running = eventually(lambda: next((row["task"] for row in self.busy(USER) if row["task"] not in ran), None), "the next one")
            self.assertEqual(len(self.busy(USER)), 1)
            ran.append(running)
            user.ask("cancel", {"task": running, "force": True})
        self.assertEqual(sorted(ran), sorted([*tasks, second_pool, urgent]))
        eventually(lambda: not self.busy(USER), "all have ended")
        # Small items: one worker takes all of them, and all come back.
        outcomes, _ = user.map("square", range(20_000))
        self.assertEqual(len(outcomes), 20_000)
        self.assertEqual(outcomes[19_999], 19_999 ** 2)

    def test_a_worker_that_dies_gives_its_slot_back(self):
        self.start(f"[quota.{USER}]\nrunning_slots = 1")
        user = self.session(USER)
        for _ in range(3):
            self.assertEqual(code_of(user.apply, "crash", 9), "worker_lost")
        self.assertEqual(user.apply("square", 3), 9)
        request = user.start("sleep", 60)
        eventually(lambda: self.busy(USER), "it runs")
        waiting = user.start("square", 4)
        user.ask("cancel", {"request": request, "force": True})
        self.assertEqual(user.result(waiting), 16)

    def test_slots_change_with_a_reload(self):
        self.start(f"[quota.{USER}]\nrunning_slots = 1")
        user = self.session(USER)
        for _ in range(3):
            user.apply("sleep", 60, detached=True)
        eventually(lambda: len(self.busy(USER)) == 1, "one runs")
        self.reload(f"[quota.{USER}]\nrunning_slots = 2")
        eventually(lambda: len(self.busy(USER)) == 2, "two run")
        self.reload("")
        eventually(lambda: len(self.busy(USER)) == 3, "all run")
        for row in user.ask("ps")["tasks"]:
            user.ask("cancel", {"task": row["task"], "force": True})

    def test_his_part_of_the_store(self):
        self.start(f'[quota.{USER}]\nstore_bytes = "2MiB"')
        user, other = Store(self.session(USER)), Store(self.session(OTHER))
        mine, theirs = user.open("dict", "mine"), other.open("dict", "theirs")
        value = b"x" * 30_000
        with self.assertRaises(Failed) as caught:
            for number in range(200):
                mine.set(str(number), value)
        self.assertEqual(caught.exception.code, "store_full")
        self.assertIn(f"quota.{USER}.store_bytes = 2097152", caught.exception.detail)
        for number in range(200):
            theirs.set(str(number), value)
        mine.op("clear")
        eventually(lambda: code_of(mine.set, "again", value) == "", "there is room again")
        with self.assertRaises(Failed) as caught:
            user.session.ask("buffer_open", {"bytes": 3 << 20}, target=9)
        self.assertEqual(caught.exception.code, "store_full")
        self.assertIn(f"quota.{USER}.store_bytes", caught.exception.detail)
        self.reload("")
        for number in range(200):
            mine.set(str(number), value)


def session_of_refused(daemon, uid):
    """The frame with which a connection of that user is refused."""
    from wire import Session  # pylint: disable=import-outside-toplevel

    class Quiet:
        @staticmethod
        def session():
            return Session(daemon.socket, greet=False)

    with session_of(Quiet, uid) as session:
        return session.receive("error")


if __name__ == "__main__":
    unittest.main()
