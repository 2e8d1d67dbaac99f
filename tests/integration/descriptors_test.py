#!/usr/bin/env python3
"""A daemon that may open no more descriptors: what runs goes on, and once there are some again so does the rest."""

import os
import resource
import signal
import unittest

from story import BYTES, DEADLINE, IN_ARENA, REFERENCE, Story, eventually


class Starved(Story):
    pools = [{"name": "default", "workers": 2}, {"name": "command", "runtime": "command", "workers": 1}]

    def starve(self, pid, room=None):
        """Lets a process open `room` more descriptors than it has, those that it closes not counted; None: none, whatever it
        closes."""
        taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        free = [number for number in range(max(taken) + (room or 0) + 2) if number not in taken]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3 if room is None else free[room], before[1]))
        feed = lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before)  # noqa: E731
        self.addCleanup(feed)
        return feed

    @staticmethod
    def counter(session, name):
        return next(row["value"] for row in session.ask("stats")["counters"] if row["name"] == name)

    def running(self):
        """Who runs something, and the zygote that it came from."""
        rows = eventually(lambda: self.daemon.workers("default", "running"), "it runs")
        with open(f"/proc/{rows[0]['pid']}/stat", encoding="ascii") as file:
            return rows[0]["pid"], int(file.read().rsplit(")", 1)[1].split()[1])

    def test_workers_that_cannot_be_taken_on(self):
        session = self.session()
        for room in (None, *range(7)):
            with self.subTest(room=room):
                eventually(lambda: len(self.daemon.workers("default", "idle")) == 2, "there are two", DEADLINE)
                request = session.start("sleep", 0.5)
                busy, _ = self.running()
                other = next(row["pid"] for row in self.daemon.workers("default") if row["pid"] != busy)
                before = self.daemon.counter("workers_died_total")
                control = self.session()
                eventually(lambda: self.counter(control, "sessions_open") == 2, "what others opened is closed")
                feed = self.starve(self.daemon.process.pid, room)
                os.kill(other, signal.SIGKILL)
                eventually(lambda: self.counter(control, "workers_died_total") == before + 1, "it is known to be dead")
                self.assertEqual(session.result(request), 0.5)
                feed()
                control.close()
                self.assertEqual(session.apply("square", 7), 49)
        eventually(lambda: len(self.daemon.workers("default", "idle")) == 2, "there are two again", DEADLINE)

    def test_a_zygote_that_dies_meanwhile(self):
        session = self.session()
        for room in (None, *range(5)):
            with self.subTest(room=room):
                request = session.start("sleep", 60)
                _, zygote = self.running()
                feed = self.starve(self.daemon.process.pid, room)
                os.kill(zygote, signal.SIGKILL)
                self.assert_fails("worker_lost", session.result, request)
                feed()
                self.assertEqual(session.apply("square", 7), 49)

    def test_a_zygote_without_any(self):
        session = self.session()
        eventually(lambda: len(self.daemon.workers("default", "idle")) == 2, "there are two", DEADLINE)
        request = session.start("sleep", 0.5)
        busy, zygote = self.running()
        other = next(row["pid"] for row in self.daemon.workers("default") if row["pid"] != busy)
        failures = self.daemon.counter("fork_failures_total")
        feed = self.starve(zygote)
        os.kill(other, signal.SIGKILL)
        eventually(lambda: self.daemon.counter("fork_failures_total") > failures, "it could not fork")
        self.assertEqual(session.result(request), 0.5)
        feed()
        eventually(lambda: len(self.daemon.workers("default", "idle")) == 2, "there are two again", DEADLINE)

    def test_an_argument_in_an_arena(self):
        session = self.session()
        segment = session.open_arena(1 << 20)
        session.up[segment][:200_000] = b"x" * 200_000

        def count():
            request = session.new_request()
            session.send("apply", head={"function": "byte_count"}, body=REFERENCE.pack(segment, 0, 200_000), encoding=BYTES, count=1,
                         flags=IN_ARENA, request=request)
            return session.result(request)

        feed = self.starve(self.daemon.process.pid)
        self.assertIn("could not pass it on", self.assert_fails("out_of_space", count).detail)
        feed()
        self.assertEqual(count(), 200_000)

    def test_a_pool_with_streams(self):
        session = self.session()
        session.ask("ping")
        feed = self.starve(self.daemon.process.pid)
        with open(os.devnull, "rb+") as null:
            error = self.assert_fails("limit_reached", session.ask, "pool_open", {"runtime": "command"}, fds=[null.fileno()] * 3)
        self.assertIn("descriptors", error.detail)
        feed()
        self.assertEqual(session.apply("square", 7), 49)


if __name__ == "__main__":
    unittest.main()
