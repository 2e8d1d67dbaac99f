#!/usr/bin/python3
"""Who may do what: plain users, operators and admins, as the kernel names them."""

import grp
import json
import os
import subprocess
import unittest

from story import Daemon, Failed, Session, eventually
from users import as_user, code_of, detail_of

PLAIN, OPERATOR, MEMBER, ADMIN = 61001, 61002, 61003, 61004
STAFF = 61050  # a group
CHANGES = ("pool_pause", "pool_resume", "drain", "reload", "shutdown")


@unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can become another user")
class Roles(unittest.TestCase):
    def start(self, config=""):
        daemon = Daemon(f'socket_mode = "0666"\n{config}')
        os.chmod(daemon.directory, 0o711)
        os.chmod(daemon.config, 0o644)
        daemon.start()
        self.addCleanup(daemon.__exit__, None)
        return daemon

    def roles(self, more=""):
        return self.start(f'operators = ["{OPERATOR}", "@{STAFF}"]\nadmins = ["{ADMIN}"]\n{more}')

    def cli(self, daemon, uid, *words):
        program = os.path.join(daemon.binaries, "taskpool")
        return as_user(lambda: (lambda done: [done.returncode, done.stdout, done.stderr])(subprocess.run(
            [program, "--socket", daemon.socket, *words], capture_output=True, text=True, timeout=30, check=False)), uid)

    def test_a_plain_user_handles_only_his_own(self):
        daemon = self.roles()
        own = daemon.session()
        theirs = own.apply("sleep", 60, detached=True)["task"]
        eventually(lambda: daemon.workers(state="running"), "it runs")
        pool = own.ask("pool_open", {"name": "roots", "workers": 1})["pool"]

        def requests():
            with Session(daemon.socket) as session:
                mine = session.apply("echo", 1, detached=True)["task"]
                session.ask("wait", {"task": mine})
                reply = session.ask("ps", {"all": True})
                return {"seen": [row["task"] for row in reply["tasks"]] == [mine], "visible": reply["visible"],
                        "theirs": [code_of(session.ask, op, {"task": theirs}) for op in ("ps", "wait", "fetch", "cancel", "log")],
                        "pools": [row["pool"] for row in session.ask("pools")["pools"]],
                        "workers": [row.get("task", "") for row in session.ask("workers")["workers"] if row["state"] == "busy"],
                        "their_pool": code_of(session.apply, "square", 1, pool=pool),
                        "denied": [code_of(session.ask, op) for op in CHANGES],
                        "drain": detail_of(session.ask, "drain"), "reload": detail_of(session.ask, "reload")}

        answer = as_user(requests, PLAIN)
        self.assertTrue(answer["seen"])
        self.assertEqual(answer["visible"], "own")
        self.assertEqual(answer["theirs"], ["unknown_task"] * 5)
        self.assertEqual(answer["pools"], ["default"])
        self.assertEqual(answer["workers"], [""])
        self.assertEqual(answer["their_pool"], "unknown_pool")
        self.assertEqual(answer["denied"], ["permission_denied"] * len(CHANGES))
        for request, rule in (("drain", "operators"), ("reload", "admins")):
            self.assertIn(f"`{rule}`", answer[request])
            self.assertIn(f"user {PLAIN} has the role 'user'", answer[request])
        self.assertEqual(own.ask("cancel", {"task": theirs, "force": True}), {"cancelled": 1})
        self.assertEqual([row["uid"] for row in own.ask("ps", {"all": True})["tasks"] if row["uid"] != 0], [PLAIN])
        self.assertEqual(own.ask("ps", {"all": True})["visible"], "all")
        own.close()

    def test_an_operator_handles_everybodys_tasks_and_pools(self):
        daemon = self.roles()

        def submit():
            with Session(daemon.socket) as session:
                return [session.apply("sleep", 60, detached=True)["task"], session.apply("echo", "theirs", detached=True)["task"]]

        running, done = as_user(submit, PLAIN)

        def requests():
            with Session(daemon.socket) as session:
                session.ask("wait", {"task": done})
                answer = {"seen": sorted(row["task"] for row in session.ask("ps", {"all": True})["tasks"]),
                          "own": session.ask("ps")["tasks"],
                          "cancelled": session.ask("cancel", {"task": running, "force": True})["cancelled"],
                          "paused": session.ask("pool_pause")["paused"], "resumed": session.ask("pool_resume")["paused"],
                          "resized": session.ask("pool_resize", {"workers": 1})["workers"],
                          "denied": [code_of(session.ask, op) for op in ("reload", "shutdown")],
                          "code": code_of(session.ask, "pool_open", {"modules": [daemon.module("demo")]})}
                request = session.new_request()
                session.send("fetch", head={"task": done}, request=request)
                answer["result"] = session.result(request)
                return answer

        expected = {"seen": sorted([running, done]), "own": [], "cancelled": 1, "paused": True, "resumed": False, "resized": 1,
                    "denied": ["permission_denied"] * 2, "code": "permission_denied", "result": "theirs"}
        self.assertEqual(as_user(requests, OPERATOR), expected)
        # By a group that is not his first.
        self.assertEqual(as_user(lambda: daemon.ask("drain"), MEMBER, groups=[STAFF]), {})

    def test_an_admin_may_do_everything_but_send_pickles(self):
        daemon = self.roles()

        def requests():
            with Session(daemon.socket) as session:
                session.ask("reload")
                pool = session.ask("pool_open", {"modules": [daemon.module("demo")], "workers": 1})["pool"]
                pickle = code_of(session.apply, "square", body=b"N.", encoding=3)
                answer = [session.apply("square", 4, pool=pool), pickle]
                session.ask("shutdown")
                return answer

        self.assertEqual(as_user(requests, ADMIN), [16, "permission_denied"])
        self.assertEqual(daemon.wait(), 0)

    def test_a_reload_reads_the_lists_again(self):
        daemon = self.roles()

        def reload():
            with Session(daemon.socket) as session:
                return code_of(session.ask, "reload")

        self.assertEqual(as_user(reload, PLAIN), "permission_denied")
        daemon.write_config(f'socket_mode = "0666"\nadmins = ["{PLAIN}"]')
        self.assertIn("admins", daemon.ask("reload")["changed"])
        self.assertEqual(as_user(reload, PLAIN), "")
        self.assertEqual(as_user(reload, ADMIN), "permission_denied")
        # Names that are not there change nothing.
        daemon.write_config('admins = ["@no-such-group"]')
        with self.assertRaises(Failed) as caught:
            daemon.ask("reload")
        self.assertIn('admins = "@no-such-group": there is no such group', caught.exception.detail)
        self.assertEqual(as_user(reload, PLAIN), "start_failed")  # he still is one: it is the file that is refused

    def test_names_are_looked_up_at_start(self):
        group = grp.getgrgid(0).gr_name
        with Daemon(f'operators = ["root", "@{group}", "@0"]') as daemon:
            good = subprocess.run([os.path.join(daemon.binaries, "taskpoold"), "--config", daemon.config, "--check-config"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(good.returncode, 0, good.stderr)
            daemon.write_config('operators = ["no-such-user"]')
            for arguments in (["--check-config"], ["--socket", daemon.socket + "2"]):
                bad = subprocess.run([os.path.join(daemon.binaries, "taskpoold"), "--config", daemon.config, *arguments],
                                     capture_output=True, text=True, check=False, timeout=30)
                self.assertEqual(bad.returncode, 78, bad.stderr)
                self.assertIn('operators = ', bad.stderr)
                self.assertIn("no-such-user", bad.stderr)

    def test_an_admin_socket_apart(self):
        daemon = Daemon()
        admin_path = os.path.join(daemon.directory, "admin")
        group = grp.getgrnam("daemon")
        head = f'socket_mode = "0666"\nmax_sessions = 2\noperators = ["{OPERATOR}"]\nadmin_socket = "{admin_path}"\n' \
               f'admin_socket_mode = "0660"\nadmin_socket_group = "{group.gr_name}"\n'
        daemon.write_config(head + 'admin_requests = "admin_socket"')
        os.chmod(daemon.directory, 0o711)
        daemon.start()
        self.addCleanup(daemon.__exit__, None)
        about = os.stat(admin_path)
        self.assertEqual((about.st_mode & 0o777, about.st_gid), (0o660, group.gr_gid))

        def pause(path):
            with Session(path) as session:
                return detail_of(session.ask, "pool_pause") or "paused"

        def refused_by_mode():
            try:
                return pause(admin_path)
            except PermissionError:
                return "mode"

        self.assertEqual(as_user(refused_by_mode, OPERATOR), "mode")
        self.assertEqual(as_user(refused_by_mode, OPERATOR, groups=[group.gr_gid]), "paused")
        for uid in (OPERATOR, 0):
            self.assertIn("for the admin socket only", as_user(lambda: pause(daemon.socket), uid))
        # To be there is no role.
        self.assertIn(f"user {PLAIN} has the role 'user'", as_user(refused_by_mode, PLAIN, groups=[group.gr_gid]))
        # Others' sessions do not keep administrators out.
        with daemon.session(), daemon.session(), Session(daemon.socket, greet=False) as late:
            self.assertIn("max_sessions", late.receive("error").head["detail"])
            with Session(admin_path) as session:
                self.assertEqual(session.ask("pool_resume")["paused"], False)
                daemon.write_config(head)
                self.assertEqual(session.ask("reload")["changed"], ["admin_requests"])
        self.assertEqual(pause(daemon.socket), "paused")
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(os.path.exists(admin_path))

    def test_an_admin_socket_that_cannot_be(self):
        with Daemon() as daemon:
            for config, why in (('admin_requests = "admin_socket"', 'admin_requests = "admin_socket": there is no admin_socket'),
                                ('admin_requests = "nowhere"', 'admin_requests = "nowhere": want anywhere or admin_socket'),
                                (f'admin_socket = "{daemon.socket}"', "want another path than socket's"),
                                ('admin_socket = "/' + 200 * "x" + '"', "admin_socket = "),
                                (f'admin_socket = "{daemon.directory}/a"\nadmin_socket_group = "no-such-group"',
                                 "admin_socket_group: there is no group 'no-such-group'")):
                daemon.write_config(config)
                socket = daemon.socket if "another path" in why else daemon.socket + "2"
                bad = subprocess.run([os.path.join(daemon.binaries, "taskpoold"), "--config", daemon.config, "--socket", socket],
                                     capture_output=True, text=True, check=False, timeout=30)
                self.assertEqual(bad.returncode, 78, bad.stderr)
                self.assertIn(why.replace('"', '\\"') if "event=" in bad.stderr else why, bad.stderr)

    def test_whoami_tells_role_quotas_and_use(self):
        daemon = self.roles(f'[quota.{OPERATOR}]\nqueued_tasks = 10\n')
        daemon.ask("pool_pause")

        def requests():
            with Session(daemon.socket) as session:
                for _ in range(3):
                    session.start("square", 1)
                return session.ask("whoami", {"all": True})

        about = as_user(requests, OPERATOR, groups=[STAFF])
        self.assertEqual({key: about[key] for key in ("uid", "gid", "groups", "role", "socket", "trusted")},
                         {"uid": OPERATOR, "gid": OPERATOR, "groups": [STAFF], "role": "operator", "socket": "clients",
                          "trusted": False})
        quotas = {row.pop("name"): row for row in about["quotas"]}
        self.assertEqual(quotas["queued_tasks"], {"used": 3, "limit": 10, "rule": f"quota.{OPERATOR}.queued_tasks = 10"})
        self.assertEqual((quotas["sessions"], quotas["running_slots"]["used"]),
                         ({"used": 1, "rule": "quota.default.sessions = 0"}, 0))
        self.assertGreater(quotas["queued_bytes"]["used"], 0)
        self.assertEqual([row["queued_tasks"] for row in about["users"] if row["uid"] == OPERATOR], [3])
        self.assertEqual(as_user(lambda: code_of(daemon.ask, "whoami", {"all": True}), PLAIN), "permission_denied")
        self.assertEqual(as_user(lambda: daemon.ask("whoami"), PLAIN)["role"], "user")
        self.assertEqual((daemon.ask("whoami")["role"], daemon.ask("whoami")["trusted"]), ("admin", True))
        daemon.ask("pool_resume")
        code, out, err = self.cli(daemon, OPERATOR, "whoami")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"user {OPERATOR} (uid {OPERATOR})", out)
        self.assertIn("role operator", out)
        self.assertRegex(out, rf"queued_tasks +0 +10 +quota.{OPERATOR}.queued_tasks = 10")
        self.assertEqual(json.loads(self.cli(daemon, PLAIN, "whoami", "--json")[1])["role"], "user")
        self.assertIn(str(OPERATOR), self.cli(daemon, OPERATOR, "whoami", "--all")[1])
        self.assertEqual(self.cli(daemon, PLAIN, "whoami", "--all")[0], 1)

    def test_the_command_line_says_whose_and_what_is_hidden(self):
        daemon = self.roles()
        with daemon.session() as session:
            task = session.apply("sleep", 60, detached=True)["task"]
        code, out, err = self.cli(daemon, PLAIN, "ps", "--all")
        self.assertEqual((code, task in out), (0, False))
        self.assertIn("operator", err)
        code, out, err = self.cli(daemon, OPERATOR, "ps", "--all")
        self.assertEqual((code, err), (0, ""))
        heading, row = (line.split() for line in out.splitlines()[:2])
        self.assertEqual(row[heading.index("OWNER")], "root")
        code, out, err = self.cli(daemon, PLAIN, "shutdown")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("permission_denied", err)
        self.assertIn("`admins`", err)
        self.cli(daemon, OPERATOR, "cancel", "--force", task)


if __name__ == "__main__":
    unittest.main()
