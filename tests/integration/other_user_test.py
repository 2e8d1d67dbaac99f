#!/usr/bin/python3
"""A client of another user: what it may do in the daemon, and what it may not."""

import array
import os
import unittest

from story import I64, IN_ARENA, REFERENCE, Daemon, Session, eventually
from users import as_user, code_of

NOBODY = 65534


def as_nobody(call):
    return as_user(call, NOBODY)


@unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can become another user")
class OtherUser(unittest.TestCase):
    def start(self, mode):
        daemon = Daemon(f'socket_mode = "{mode}"')
        os.chmod(daemon.directory, 0o711)
        daemon.start()
        self.addCleanup(daemon.__exit__, None)
        return daemon

    def test_who_may_connect_is_the_socket_s_mode(self):
        daemon = self.start("0600")

        def connect():
            try:
                daemon.session().close()
            except PermissionError:
                return "denied"
            return "connected"

        self.assertEqual(as_nobody(connect), "denied")
        self.assertEqual(connect(), "connected")

    def test_it_may_work_but_not_change_what_concerns_others(self):
        daemon = self.start("0666")
        own = daemon.session()
        task = own.apply("sleep", 60, detached=True)["task"]
        eventually(lambda: daemon.workers(state="running"), "it runs")

        def requests():
            session = Session(daemon.socket)
            codes = {}
            for op in ("pool_pause", "pool_resume", "reload", "drain", "shutdown"):
                codes[op] = code_of(session.ask, op)
            codes["pool_resize"] = code_of(session.ask, "pool_resize", {"workers": 1})
            codes["pool_close"] = code_of(session.ask, "pool_close", {"pool": "default"})
            codes["modules"] = code_of(session.ask, "pool_open", {"modules": [daemon.module("demo")]})
            for op in ("wait", "fetch", "cancel", "log"):
                codes[op] = code_of(session.ask, op, {"task": task})
            codes["ps"] = len(session.ask("ps")["tasks"])
            pool = session.ask("pool_open", {"name": "mine", "workers": 1})["pool"]
            session.ask("pool_resize", {"pool": pool, "workers": 2})
            codes["mine"] = session.apply("square", 5, pool=pool)
            codes["square"] = session.apply("square", 6)
            session.close()
            return codes

        denied = dict.fromkeys(("pool_pause", "pool_resume", "reload", "drain", "shutdown", "pool_resize", "pool_close",
                                "modules"), "permission_denied")
        hidden = dict.fromkeys(("wait", "fetch", "cancel", "log"), "unknown_task")
        self.assertEqual(as_nobody(requests), {**denied, **hidden, "ps": 0, "mine": 25, "square": 36})
        self.assertEqual(own.ask("ps", {"task": task})["tasks"][0]["state"], "running")
        self.assertEqual(own.ask("cancel", {"task": task, "force": True}), {"cancelled": 1})
        own.close()

    def test_its_arenas_are_read_and_written(self):
        daemon = self.start("0666")

        def requests():
            session = Session(daemon.socket)
            numbers = array.array("q", range(100_000)).tobytes()
            segment = session.open_arena(len(numbers))
            session.up[segment][:len(numbers)] = numbers
            request = session.new_request()
            session.send("map", head={"function": "square", "result_element": "i64"}, flags=IN_ARENA | 2, encoding=I64,
                         body=REFERENCE.pack(segment, 0, len(numbers)), count=100_000, request=request)
            total = 0
            while True:
                frame = session.receive("results", "failed", "done", request=request)
                if frame.op != "results":
                    break
                data = session.read_down(frame.body)[0] if frame.flags & IN_ARENA else frame.body
                total += sum(array.array("q", data))
            session.close()
            return [frame.op, total]

        self.assertEqual(as_nobody(requests), ["done", sum(x * x for x in range(100_000))])


if __name__ == "__main__":
    unittest.main()
