#!/usr/bin/python3
"""Limits on tasks, where no cgroup enforces them (tests/service/vm_test.py has those): what a task meets, in every runtime, and that
nothing else suffers."""

import os
import shutil
import tempfile
import unittest

from story import SANITIZED, Daemon, Story, eventually, is_alive

MIB = 1 << 20
# What the tasks of the python pools call. One argument each.
HELPER = '''
import os, resource, subprocess, time

def allocate(size):
    return len(bytearray(size))

def open_files(count):
    files = []
    try:
        for _ in range(count):
            files.append(open("/dev/null"))
    finally:
        for file in files:
            file.close()
    return count

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds

def burn_in_a_child(seconds, pid_file):
    with subprocess.Popen(["/usr/bin/python3", "-c", f"import time\\nwhile time.process_time() < {seconds}: pass"]) as child:
        with open(pid_file, "w") as file:
            file.write(str(child.pid))
        return child.wait()

def about(_):
    return {"nice": os.getpriority(os.PRIO_PROCESS, 0), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "data": resource.getrlimit(resource.RLIMIT_DATA), "processes": resource.getrlimit(resource.RLIMIT_NPROC),
            "pid": os.getpid()}
'''
LIMITS = {"workers": 1, "max_task_memory": "300MiB", "max_task_files": 64, "max_task_processes": 5000, "nice": 3}


class Limited(Story):
    @classmethod
    def setUpClass(cls):
        cls.helpers = tempfile.mkdtemp(prefix="taskpool-limits-")
        cls.addClassCleanup(shutil.rmtree, cls.helpers)
        with open(os.path.join(cls.helpers, "limits_helper.py"), "w") as file:
            file.write(HELPER)
        python = {"runtime": "python", "modules": ["limits_helper"]}
        limits = {**LIMITS} if not SANITIZED else {key: value for key, value in LIMITS.items() if key != "max_task_memory"}
        cls.pools = [{"name": "free", "workers": 1},
                     {"name": "native", **limits}, {"name": "command", "runtime": "command", **limits},
                     {"name": "python", **python, **limits},
                     {"name": "cpu", "workers": 1, "cpu_timeout": "300ms"},
                     {"name": "cpu_command", "runtime": "command", "workers": 1, "cpu_timeout": "300ms"},
                     {"name": "cpu_python", "workers": 1, **python, "cpu_timeout": "300ms"}]
        cls.daemon = Daemon(cls.config, pools=cls.pools, environment={"PYTHONPATH": cls.helpers, "PYTHONDONTWRITEBYTECODE": "1"})
        cls.daemon.start()
        cls.addClassCleanup(cls.stop_daemon)

    def shell(self, session, script, **options):
        return session.apply("run", ["/usr/bin/python3", "-c", script], pool="command", **options)

    @unittest.skipIf(SANITIZED, "SKIPPED: a sanitizer's own memory does not fit the bound")
    def test_memory(self):
        session = self.session()
        worker = session.apply("describe", [], pool="native")["worker"]
        error = self.assert_fails("task_failed", session.apply, "allocate", 1 << 30, pool="native")
        self.assertIn("bad_alloc", error.detail + error.head.get("type", ""))
        session.apply("allocate", 100 * MIB, pool="native")
        self.assertEqual(session.apply("describe", [], pool="native")["worker"], worker, "it lives on")

        error = self.assert_fails("task_failed", session.apply, "limits_helper.allocate", 1 << 30, pool="python")
        self.assertEqual(error.head["type"], "MemoryError")
        self.assertEqual(session.apply("limits_helper.allocate", 100 * MIB, pool="python"), 100 * MIB)

        result = self.shell(session, "bytearray(1 << 30)")
        self.assertEqual(result["exit_code"], 1)
        self.assertIn("MemoryError", result["stderr"])
        self.assertEqual(self.shell(session, "bytearray(100 << 20)")["exit_code"], 0)
        self.assertEqual(session.apply("allocate", 400 * MIB, pool="free"), 400 * MIB, "other pools have no such limit")

    def test_open_files(self):
        session = self.session()
        error = self.assert_fails("task_failed", session.apply, "limits_helper.open_files", 64, pool="python")
        self.assertEqual(error.head["type"], "OSError")
        self.assertEqual(session.apply("limits_helper.open_files", 20, pool="python"), 20)
        result = self.shell(session, "[open('/dev/null') for _ in range(64)]")
        self.assertIn("Too many open files", result["stderr"])
        # With so few, a worker still gets large arguments in shared memory.
        self.assertEqual(self.shell(session, "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))")["stdout"],
                         "(64, 64)\n")

    def test_large_arguments_and_results_arrive_in_spite_of_them(self):
        session = self.session()
        self.assertEqual(len(session.apply("big_result", 8 * MIB, pool="native")), 8 * MIB)

    def test_what_the_process_is_told(self):
        session = self.session()
        told = session.apply("limits_helper.about", 0, pool="python")
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual((told["nice"], told["files"]), (own + 3, [64, 64]))
        native = session.apply("describe", [], pool="native")["worker"]
        pid = next(row["pid"] for row in self.daemon.workers("native") if row["worker"] == native)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), own + 3)
        self.assertEqual(self.shell(session, "import os; print(os.getpriority(os.PRIO_PROCESS, 0))")["stdout"], f"{own + 3}\n")
        with open(f"/proc/{self.daemon.process.pid}/limits") as file:
            self.assertNotIn("  64  ", file.read(), "the daemon has its own")

    def test_what_is_in_force_is_shown_and_said(self):
        rows = {row["pool"]: row for row in self.daemon.ask("pools")["pools"]}
        self.assertNotIn("limits", rows["free"])
        limits = rows["python"]["limits"]
        self.assertEqual(limits["max_task_files"], {"limit": 64, "by": "rlimit"})
        self.assertEqual(limits["nice"], {"limit": 3, "by": "rlimit"})
        self.assertEqual(rows["cpu"]["limits"], {"cpu_timeout_ms": {"limit": 300, "by": "supervisor"}})
        processes = limits["max_task_processes"]
        if processes["by"] != "cgroup":
            self.assertEqual(processes["by"], "nobody" if os.geteuid() == 0 else "rlimit")
            self.assertIn("no cgroups", processes["note"])
            self.assertIn("event=limit_weakened pool=python limit=max_task_processes value=5000", self.daemon.log())
        self.assertIn("event=limits memory_by=", self.daemon.log())

    def test_cpu_time(self):
        session = self.session()
        error = self.assert_fails("timed_out", session.apply, "spin", 60_000_000, pool="cpu")
        self.assertRegex(error.detail, r"^cpu_timeout_ms: killed after \d+ ms of CPU time, of 300$")
        error = self.assert_fails("timed_out", session.apply, "limits_helper.burn", 60, pool="cpu_python")
        self.assertIn("cpu_timeout_ms", error.detail)
        # What a task starts counts, too, and ends with its worker.
        pid_file = os.path.join(self.helpers, "pid")
        error = self.assert_fails("timed_out", session.apply, "limits_helper.burn_in_a_child", [60, pid_file], pool="cpu_python")
        self.assertIn("cpu_timeout_ms", error.detail)
        with open(pid_file) as file:
            child = file.read()
        eventually(lambda: not is_alive(child), "it was killed")
        script = "while True: pass"
        error = self.assert_fails("timed_out", session.apply, "run", ["/usr/bin/python3", "-c", script], pool="cpu_command")
        self.assertIn("cpu_timeout_ms", error.detail)

    def test_cpu_time_is_of_one_task_and_does_not_pass_in_sleep(self):
        session = self.session()
        worker = session.apply("describe", [], pool="cpu")["worker"]
        session.apply("sleep", 0.5, pool="cpu")
        found, done = session.map("spin", [20_000] * 40, pool="cpu")
        self.assertEqual((len(found), done["succeeded"]), (40, 40))
        self.assertEqual(session.apply("describe", [], pool="cpu")["worker"], worker)

    def test_cpu_time_of_a_call(self):
        session = self.session()
        error = self.assert_fails("timed_out", session.apply, "spin", 60_000_000, pool="free", cpu_timeout_ms=50)
        self.assertIn("of 50", error.detail)
        self.assertEqual(session.apply("spin", 600_000, pool="cpu", cpu_timeout_ms=0), 600_000)

    def test_a_sessions_pool_has_its_own(self):
        session = self.session()
        pool = session.ask("pool_open", {"workers": 1, "runtime": "command", "max_task_files": 40, "nice": 2})["pool"]
        out = session.apply("run", ["sh", "-c", "ulimit -n; nice"], pool=pool)["stdout"].split()
        self.assertEqual(out, ["40", str(os.getpriority(os.PRIO_PROCESS, 0) + 2)])
        self.assertIn("at least 32", self.assert_fails("bad_argument", session.ask, "pool_open",
                                                       {"workers": 1, "max_task_files": 31}).detail)
        self.assert_fails("bad_message", session.ask, "pool_open", {"workers": 1, "nice": 20})


class Bounded(Story):
    pools = [{"name": "default", "workers": 1, "max_task_files": 100, "nice": 1, "cpu_timeout": "10s"}]

    def test_a_sessions_pool_has_no_weaker_limits_than_the_first(self):
        session = self.session()

        def limits(**wanted):
            pool = session.ask("pool_open", {"workers": 1, "runtime": "command", **wanted})["pool"]
            row = next(row for row in session.ask("pools")["pools"] if row["pool"] == pool)
            return {key: limit["limit"] for key, limit in row["limits"].items()}

        self.assertEqual(limits(), {"max_task_files": 100, "nice": 1, "cpu_timeout_ms": 10_000})
        self.assertEqual(limits(max_task_files=1000, nice=0, cpu_timeout_ms=20_000),
                         {"max_task_files": 100, "nice": 1, "cpu_timeout_ms": 10_000})
        self.assertEqual(limits(max_task_files=50, nice=5, cpu_timeout_ms=1000),
                         {"max_task_files": 50, "nice": 5, "cpu_timeout_ms": 1000})


@unittest.skipIf(SANITIZED, "SKIPPED: a sanitizer's own memory does not fit the bound")
class TooSmall(Story):
    def test_a_pool_whose_workers_cannot_begin_with_so_little_says_so(self):
        session = self.session()
        error = self.assert_fails("start_failed", session.ask, "pool_open", {"workers": 1, "max_task_memory": 1})
        self.assertTrue(error.detail, error)
        eventually(lambda: len(session.ask("pools")["pools"]) == 1, "it is gone")


@unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can be somebody else")
class Unprivileged(unittest.TestCase):
    def test_the_processes_of_a_user_are_bounded_and_it_is_said_how(self):
        nobodys_uid = 64321  # of no account
        daemon = Daemon(pools=[{"name": "default", "runtime": "command", "workers": 1, "max_task_processes": 30}],
                        before_exec=lambda: os.setresuid(nobodys_uid, nobodys_uid, nobodys_uid))
        os.chown(daemon.directory, nobodys_uid, -1)
        script = ("import os, time\nmade = []\ntry:\n while len(made) < 100:\n"
                  "  pid = os.fork()\n  if pid == 0: time.sleep(60); os._exit(0)\n  made.append(pid)\n"
                  "except OSError as e: print(e.errno)\nfor pid in made: os.kill(pid, 9)")
        with daemon, daemon.session() as session:
            self.assertEqual(session.apply("run", ["/usr/bin/python3", "-c", script])["stdout"], "11\n")  # EAGAIN
            limit = session.ask("pools")["pools"][0]["limits"]["max_task_processes"]
            self.assertEqual((limit["limit"], limit["by"]), (30, "rlimit"))
            self.assertIn("all processes of the user", limit["note"])


class Reloaded(unittest.TestCase):
    def test_new_limits_hold_for_new_workers(self):
        pools = [{"name": "default", "runtime": "command", "workers": 1, "nice": 1}]
        with Daemon(pools=pools) as daemon, daemon.session() as session:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            self.assertEqual(session.apply("run", ["nice"])["stdout"], f"{own + 1}\n")
            pools[0].update(nice=4, max_task_files=1_000_000_000)
            daemon.write_config(pools=pools)
            changed = session.ask("reload")["changed"]
            self.assertEqual(sorted(changed), ["pool.default.max_task_files", "pool.default.nice"])
            self.assertEqual(session.apply("run", ["nice"])["stdout"], f"{own + 4}\n")
            self.assertIn("event=limit_weakened pool=default limit=max_task_files value=1000000000 by=rlimit", daemon.log())
            self.assertIn("LimitNOFILE", session.ask("pools")["pools"][0]["limits"]["max_task_files"]["note"])


class Recycled(Story):
    """Replacement after so many tasks, and above so much memory, in the runtimes that worker_test.py does not try."""

    @classmethod
    def setUpClass(cls):
        kinds = {"command": {"runtime": "command"}, "python": {"runtime": "python", "modules": ["os"]}}
        cls.pools = [{"name": "default", "workers": 1}]
        for name, kind in kinds.items():
            cls.pools += [{"name": name + "_tasks", "workers": 1, "max_tasks_per_worker": 3, **kind},
                          {"name": name + "_memory", "workers": 1, "max_worker_memory": "1MiB", **kind}]
        super().setUpClass()

    def worker(self, session, pool):
        """The process that ran a task."""
        if pool.startswith("python"):
            return session.apply("builtins.eval", "__import__('os').getpid()", pool=pool)
        return int(session.apply("run", ["sh", "-c", "echo $PPID"], pool=pool)["stdout"])

    def test_after_so_many_tasks(self):
        session = self.session()
        for pool in ("command_tasks", "python_tasks"):
            with self.subTest(pool):
                ran = [self.worker(session, pool) for _ in range(9)]
                self.assertEqual([ran.count(pid) for pid in dict.fromkeys(ran)], [3, 3, 3])

    def test_above_so_much_memory(self):
        session = self.session()
        for pool in ("command_memory", "python_memory"):
            with self.subTest(pool):
                first = self.worker(session, pool)
                eventually(lambda: self.worker(session, pool) != first, "it is replaced")
        self.assertEqual(self.daemon.counter("workers_died_total"), 0)


if __name__ == "__main__":
    unittest.main()
