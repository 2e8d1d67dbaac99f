#!/usr/bin/python3
"""The audit: who asked for what, and with which outcome, in the daemon's log."""

import os
import re
import unittest

from story import JSON, LAST, Daemon, eventually, pack
from store import Store
from users import code_of, session_of

USER = 61001


class Audit(unittest.TestCase):
    def start(self, config=""):
        daemon = Daemon(f'socket_mode = "0666"\n{config}')
        os.chmod(daemon.directory, 0o711)
        daemon.start()
        self.addCleanup(daemon.__exit__, None)
        return daemon

    @staticmethod
    def lines(daemon):
        """What was written: the fields of each line, without time, level and event."""
        found = []
        for line in daemon.log().splitlines():
            if " level=info event=audit " in line:
                fields = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line.split(" event=audit ")[1])
                found.append({key: value.strip('"') for key, value in fields})
        return found

    def test_each_change_has_one_line_with_who_and_what(self):
        daemon = self.start()
        with daemon.session() as session:
            me = {"uid": str(os.geteuid()), "pid": str(os.getpid()), "session": str(session.welcome["session"]), "outcome": "ok"}
            task = session.apply("sleep", 60, detached=True, name="a name")["task"]
            session.map("square", [1, 2, 3])
            session.ask("cancel", {"task": task, "force": True})
            pool = session.ask("pool_open", {"name": "mine", "workers": 1})["pool"]
            session.ask("pool_resize", {"pool": pool, "workers": 2})
            session.ask("pool_pause")
            session.ask("pool_resume")
            session.ask("pool_close", {"pool": pool, "terminate": True})
            store = Store(session)
            stock = store.open("dict", "stock")
            store.open("dict", "stock")  # is there: no change
            stock.set("apples", 3)
            stock.delete()
            session.ask("buffer_open", {"name": "memory", "bytes": 4096}, target=50)
            session.ask("reload")
            session.ask("drain")
            session.ask("shutdown", {"force": True})
        self.assertEqual(daemon.wait(), 0)
        lines = self.lines(daemon)
        for line in lines:
            self.assertEqual({key: line[key] for key in me}, me, line)
        about = [{key: value for key, value in line.items() if key not in me} for line in lines]
        job = about[1].pop("task")
        made, deleted = about[8].pop("object"), about[9].pop("object")
        self.assertTrue(job and made == deleted)
        self.assertEqual(about, [
            {"op": "apply", "task": task, "pool": "default", "function": "sleep", "name": "a name", "detached": "true"},
            {"op": "map", "pool": "default", "function": "square", "items": "3"},
            {"op": "cancel", "task": task, "owner": str(os.geteuid()), "cancelled": "1"},
            {"op": "pool_open", "pool": "mine", "runtime": "native"},
            {"op": "pool_resize", "pool": "mine", "workers": "2"},
            {"op": "pool_pause", "pool": "default"}, {"op": "pool_resume", "pool": "default"},
            {"op": "pool_close", "pool": "mine"},
            {"op": "object_open", "type": "dict", "name": "stock"}, {"op": "object_delete", "type": "dict", "name": "stock"},
            {"op": "buffer_open", "name": "memory", "bytes": "4096"},
            {"op": "reload"}, {"op": "drain"}, {"op": "shutdown", "force": "true"}])

    def test_what_concerns_a_session_only_has_none_unless_all_is_asked_for(self):
        for level, expected in (("changes", ["map"]), ("all", ["apply"] * 5 + ["map", "object_open", "cancel"]), ("none", [])):
            with self.subTest(level):
                daemon = self.start(f'audit = "{level}"')
                with daemon.session() as session:
                    for number in range(5):
                        session.apply("square", number)
                    request = session.new_request()  # a map whose input comes bit by bit has one line all the same
                    for last in (0, LAST):
                        session.send("input" if last else "map", head=None if last else {"function": "square"}, body=pack([b"1"]),
                                     encoding=JSON, count=1, flags=last, request=request)
                    session.outcomes(request)
                    Store(session).open("dict")
                    session.ask("cancel", {"request": 4711})
                self.assertEqual([line["op"] for line in self.lines(daemon)], expected)

    @unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can become another user")
    def test_what_was_refused_has_the_reason(self):
        daemon = self.start()
        with daemon.session() as root, session_of(daemon, USER) as session:
            task = root.apply("sleep", 60, detached=True)["task"]
            self.assertEqual(code_of(session.ask, "reload"), "permission_denied")
            self.assertEqual(code_of(session.ask, "pool_pause", {"pool": "default"}), "permission_denied")
            self.assertEqual(code_of(session.ask, "cancel", {"task": task}), "unknown_task")
            self.assertEqual(code_of(session.ask, "pool_open", {"name": "new\nline", "modules": ["/x.so"]}), "permission_denied")
            self.assertEqual(code_of(session.apply, "square", body=b"N.", encoding=3), "permission_denied")
            code_of(session.apply, "no_such_function", 1)  # is nobody's concern
            root.ask("cancel", {"task": task, "force": True})
        lines = [line for line in self.lines(daemon) if line["uid"] == str(USER)]
        self.assertEqual([(line["op"], line["outcome"]) for line in lines],
                         [("reload", "permission_denied"), ("pool_pause", "permission_denied"), ("cancel", "unknown_task"),
                          ("pool_open", "permission_denied"), ("apply", "permission_denied")])
        self.assertIn("the role 'user'", lines[0]["detail"])
        self.assertEqual(lines[1]["pool"], "default")
        self.assertEqual(lines[2]["task"], task)
        self.assertEqual(lines[3]["name"], "new\\nline")  # a client writes no lines of its own
        self.assertEqual(lines[4]["function"], "square")

    def test_a_reload_that_fails_and_a_client_that_does_not_wait(self):
        daemon = self.start()
        daemon.write_config("nonsense = 1")
        with daemon.session() as session:
            self.assertEqual(code_of(session.ask, "reload"), "start_failed")
        daemon.write_config('log_level = "info"')
        session = daemon.session()
        session.send("reload", request=1)
        session.close()
        eventually(lambda: len(self.lines(daemon)) == 2, "both are told of")
        self.assertEqual([line["outcome"] for line in self.lines(daemon)], ["start_failed", "ok"])
        self.assertIn("nonsense", self.lines(daemon)[0]["detail"])


if __name__ == "__main__":
    unittest.main()
