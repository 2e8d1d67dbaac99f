#!/usr/bin/python3
"""The life of the daemon: starting, the socket, signals, reloads, draining, and looking at it."""

import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import unittest

from story import JSON, Daemon, Failed, Story, binaries, eventually, is_alive, pack, parent_of


def taskpoold(*arguments, **environment):
    return subprocess.run([os.path.join(binaries(), "taskpoold"), *arguments], capture_output=True, text=True, timeout=20,
                          env={**os.environ, **environment})


class Starting(Story):
    config = 'socket_mode = "0640"'

    def test_a_second_instance_is_refused(self):
        second = taskpoold("--config", self.daemon.config, "--socket", self.daemon.socket)
        self.assertEqual(second.returncode, 75)
        self.assertIn("another taskpoold serves '" + self.daemon.socket, second.stderr)
        self.assertEqual(self.session().apply("square", 3), 9)

    def test_the_socket_has_the_mode_that_was_asked_for(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.socket).st_mode), 0o640)

    def test_what_is_no_socket_is_left_alone(self):
        with tempfile.NamedTemporaryFile() as file:
            refused = taskpoold("--config", self.daemon.config, "--socket", file.name)
            self.assertEqual(refused.returncode, 78)
            self.assertIn("is not a socket", refused.stderr)
            self.assertTrue(os.path.exists(file.name))

    def test_stats_name_the_daemon(self):
        stats = self.session().ask("stats")
        self.assertEqual((stats["pid"], stats["socket"], stats["state"]), (self.daemon.process.pid, self.daemon.socket, "running"))
        self.assertTrue(all(row["help"] and row["kind"] in ("counter", "gauge") for row in stats["counters"]))

    def test_functions_of_a_pool(self):
        functions = {row["name"]: row for row in self.session().ask("functions")["functions"]}
        self.assertIn("x", functions["square"]["signature"])
        self.assertTrue(functions["square"]["array"])
        self.assertFalse(functions["greet"]["array"])
        self.assert_fails("unknown_pool", self.session().ask, "functions", {"pool": "nowhere"})


class Sockets(unittest.TestCase):
    def test_a_stale_socket_is_replaced(self):
        daemon = Daemon()
        try:
            daemon.start().stop(signal.SIGKILL)
            self.assertTrue(os.path.exists(daemon.socket))
            daemon.start()
            with daemon.session() as session:
                self.assertEqual(session.apply("square", 3), 9)
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(os.path.exists(daemon.socket))
        finally:
            daemon.__exit__(None)

    def test_a_live_socket_of_somebody_else_is_kept(self):
        daemon = Daemon()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            other.bind(daemon.socket)
            other.listen()
            daemon.start(wait=False)
            self.assertEqual(daemon.wait(), 75)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(daemon.socket)
        finally:
            other.close()
            daemon.__exit__(None)


class Arguments(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.file = os.path.join(self.directory.name, "config.toml")

    def write(self, text):
        with open(self.file, "w") as file:
            file.write(text)

    def test_check_config(self):
        self.write('stop_timeout = "3s"\n')
        good = taskpoold("--config", self.file, "--check-config")
        self.assertEqual(good.returncode, 0, good.stderr)
        for text, named in (("stop_timout = '3s'", "stop_timout"), ("max_sessions = 'many'", "max_sessions"), ("[[pool]", "config.toml"),
                            ("stop_timeout = '3 parsecs'", "stop_timeout"), ("[[pool]]\nname='a'\nruntime='odd'\n", "odd")):
            with self.subTest(text):
                self.write(text)
                bad = taskpoold("--config", self.file, "--check-config")
                self.assertEqual(bad.returncode, 78)
                self.assertIn(named, bad.stderr)

    def test_print_config_shows_flags_and_can_be_read_again(self):
        self.write('stop_timeout = "3s"\n')
        shown = taskpoold("--config", self.file, "--max-sessions", "77", "--print-config")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("max_sessions = 77", shown.stdout)
        self.write(shown.stdout)
        self.assertEqual(taskpoold("--config", self.file, "--print-config").stdout, shown.stdout)

    def test_bad_usage(self):
        self.assertEqual(taskpoold("--no-such-flag").returncode, 2)
        self.assertNotEqual(taskpoold("--config", "/nonexistent/file").returncode, 0)


class Ending(unittest.TestCase):
    def test_sigterm_finishes_what_runs_and_waits(self):
        with Daemon() as daemon:
            session = daemon.session()
            requests = [session.start("sleep", 0.2) for _ in range(4)]
            session.ask("ping")
            daemon.process.send_signal(signal.SIGTERM)
            eventually(lambda: "event=stopping" in daemon.log(), "it has heard")
            self.assertEqual(self.refusal(session), "draining")
            self.assertEqual([session.result(request) for request in requests], [0.2] * 4)
            self.assertEqual(daemon.wait(), 0)
            session.close()

    def test_signals_do_not_kill_what_ends_already(self):
        for _ in range(5):
            with Daemon() as daemon:
                daemon.session().close()
                daemon.process.send_signal(signal.SIGTERM)
                eventually(lambda: "event=stopped" in daemon.log(), "it ends")
                while daemon.process.poll() is None:
                    daemon.process.send_signal(signal.SIGTERM)
                self.assertEqual(daemon.process.returncode, 0, daemon.log()[-2000:])

    def test_stop_timeout_cancels_and_says_so(self):
        with Daemon('stop_timeout = "200ms"\ncancel_grace = "100ms"') as daemon:
            session = daemon.session()
            running = [session.start("spin", 60_000_000), session.start("sleep", 60)]
            waiting = session.start("square", 1)
            eventually(lambda: len(daemon.workers(state="running")) == 2, "they run")
            pids = [row["pid"] for row in daemon.workers()]
            daemon.process.send_signal(signal.SIGTERM)
            for request in (*running, waiting):
                with self.assertRaises(Failed) as caught:
                    session.result(request)
                self.assertEqual(caught.exception.code, "cancelled")
            self.assertEqual(daemon.wait(), 0)
            self.assertIn("event=stop_timeout", daemon.log())
            self.assertFalse(any(is_alive(pid) for pid in pids))
            session.close()

    def test_stopped_processes_do_not_keep_it(self):
        with Daemon('stop_timeout = "200ms"\ncancel_grace = "500ms"') as daemon:
            session = daemon.session()
            session.start("sleep", 60)
            eventually(lambda: daemon.workers(state="running"), "it runs")
            workers = [row["pid"] for row in daemon.workers()]
            zygotes = {parent_of(pid) for pid in workers}
            self.assertNotIn(daemon.process.pid, zygotes)
            for pid in (*zygotes, *workers):
                os.kill(pid, signal.SIGSTOP)
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)
            self.assertNotIn("event=stop_stuck", daemon.log())
            self.assertFalse(any(is_alive(pid) for pid in (*zygotes, *workers)))
            session.close()

    def test_a_second_signal_is_less_patient(self):
        with Daemon('cancel_grace = "100ms"') as daemon:
            session = daemon.session()
            session.start("sleep", 60)
            eventually(lambda: daemon.workers(state="running"), "it runs")
            daemon.process.send_signal(signal.SIGINT)
            eventually(lambda: "event=stopping" in daemon.log(), "it has heard")
            daemon.process.send_signal(signal.SIGINT)
            self.assertEqual(daemon.wait(), 0)
            self.assertIn("event=stop_forced", daemon.log())
            session.close()

    def test_drain(self):
        with Daemon() as daemon:
            session, other = daemon.session(), daemon.session()
            running = session.start("sleep", 0.3)
            eventually(lambda: daemon.workers(state="running"), "it runs")
            with self.assertRaises(Failed) as caught:
                other.ask("drain", {"timeout_ms": 20})
            self.assertEqual(caught.exception.code, "timed_out")
            self.assertEqual(self.refusal(session), "draining")
            self.assertEqual(other.ask("stats")["state"], "draining")
            self.assertEqual(other.ask("drain"), {})
            self.assertEqual(session.result(running), 0.3)
            session.close(), other.close()

    def test_shutdown(self):
        for force in (False, True):
            with self.subTest(force=force), Daemon('cancel_grace = "100ms"') as daemon:
                session = daemon.session()
                request = session.start("sleep", 60 if force else 0.2)
                eventually(lambda: daemon.workers(state="running"), "it runs")
                self.assertEqual(session.ask("shutdown", {"force": force}), {})
                if not force:
                    self.assertEqual(session.result(request), 0.2)
                self.assertEqual(daemon.wait(), 0)
                session.close()

    def test_an_idle_daemon_leaves(self):
        daemon = Daemon('idle_exit = "300ms"\nkeep_results_for = "100ms"')
        try:
            daemon.start()
            session = daemon.session()
            session.apply("sleep", 0.5)  # neither work nor a session is idle
            session.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertIn("event=idle", daemon.log())
        finally:
            daemon.__exit__(None)

    def refusal(self, session):
        with self.assertRaises(Failed) as caught:
            session.apply("square", 1)
        return caught.exception.code


class Reloading(unittest.TestCase):
    def test_20_reloads_under_load_fail_no_request(self):
        with Daemon() as daemon:
            stop, failures, served = threading.Event(), [], []

            def client():
                try:
                    with daemon.session() as session:
                        count = 0
                        while not stop.is_set():
                            assert session.apply("square", count) == count * count
                            found, done = session.map("square", range(200))
                            assert done["succeeded"] == 200, (done, found)
                            count += 1
                    served.append(count)
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(repr(error))

            threads = [threading.Thread(target=client) for _ in range(4)]
            for thread in threads:
                thread.start()
            with daemon.session() as session:
                for round_number in range(20):
                    if round_number % 2:
                        session.ask("reload")
                    else:
                        before = daemon.counter("reloads_total")
                        daemon.process.send_signal(signal.SIGHUP)
                        eventually(lambda: daemon.counter("reloads_total") > before, "it has heard")
                stop.set()
                for thread in threads:
                    thread.join()
                self.assertEqual(failures, [])
                self.assertEqual(len(served), 4)
                eventually(lambda: len(daemon.workers()) == 2, "the old generations are gone")
                self.assertEqual(daemon.counter("workers_died_total"), 0)

    def test_what_changes_and_what_cannot(self):
        with Daemon() as daemon, daemon.session() as session:
            daemon.write_config('cancel_grace = "7s"\nsocket_mode = "0666"', [{"name": "default", "workers": 3}])
            answer = session.ask("reload")
            self.assertIn("cancel_grace", answer["changed"])
            self.assertIn("pool.default.workers", answer["changed"])
            self.assertEqual(answer["needs_restart"], ["socket_mode"])
            eventually(lambda: len(daemon.workers(state="idle")) == 3, "there are three")

    def test_pools_come_and_go(self):
        with Daemon() as daemon, daemon.session() as session:
            daemon.write_config("", [{"name": "default", "workers": 1}, {"name": "more", "workers": 1}])
            session.ask("reload")
            self.assertEqual(session.apply("square", 3, pool="more"), 9)
            daemon.write_config("", [{"name": "default", "workers": 1}])
            session.ask("reload")
            eventually(lambda: [row["pool"] for row in session.ask("pools")["pools"]] == ["default"], "it is gone")
            with self.assertRaises(Failed) as caught:
                session.apply("square", 3, pool="more")
            self.assertIn(caught.exception.code, ("unknown_pool", "pool_closed"))

    def test_a_broken_file_changes_nothing(self):
        with Daemon() as daemon, daemon.session() as session:
            generation = daemon.workers()[0]["generation"]
            for config, named, pools in (("nonsense = 1", "nonsense", None),
                                         ("", "nonexistent.so", [{"name": "default", "modules": ["/nonexistent.so"]}])):
                daemon.write_config(config, pools)
                with self.assertRaises(Failed) as caught:
                    session.ask("reload")
                self.assertEqual(caught.exception.code, "start_failed")
                self.assertIn(named, caught.exception.detail)
                self.assertEqual(session.apply("square", 3), 9)
                self.assertEqual(daemon.workers()[0]["generation"], generation)


class StoppingPools(Story):
    pools = [{"name": "default", "workers": 1}, {"name": "command", "runtime": "command", "workers": 1}]

    def test_the_default_pool_closes_first(self):
        """Another pool that takes longer to close is not taken for it."""
        session = self.session()
        os.kill(self.daemon.workers("command")[0]["pid"], signal.SIGSTOP)
        self.daemon.process.terminate()
        codes = set()
        while True:
            try:
                self.assertEqual(session.apply("square", 7), 49)  # it has not heard of the signal yet
            except Failed as error:
                codes.add(error.code)
            except (EOFError, OSError):
                break
        self.assertEqual(codes, {"draining"})


class Keeping(Story):
    config = "kept_results = 0"

    def test_whoever_waits_hears_of_what_is_not_kept(self):
        session, other = self.session(), self.session()
        for _ in range(3):
            session.ask("pool_pause")
            task = session.apply("square", 3, detached=True)["task"]
            waiting = other.new_request()
            other.send("wait", head={"task": task}, request=waiting)
            other.ask("ping")  # it waits now
            session.ask("pool_resume")
            self.assertEqual(json.loads(other.receive("ok", request=waiting).body)["state"], "succeeded")
        self.assertEqual(session.apply("square", 7, idempotency_key="seven"), 49)
        eventually(lambda: self.daemon.counter("results_kept") == 0, "none is kept")


class Cancelling(Story):
    config = 'cancel_grace = "1500ms"'

    def test_a_soft_timeout_in_the_grace_keeps_nobody_busy(self):
        session = self.session()
        request = session.start("spin", 30_000_000, soft_timeout_ms=200)
        eventually(lambda: self.daemon.workers(state="running"), "it runs")
        session.ask("cancel", {"request": request})
        before = cpu_seconds(self.daemon.process.pid)
        self.assert_fails("cancelled", session.result, request)
        self.assertLess(cpu_seconds(self.daemon.process.pid) - before, 0.4)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pools(Story):
    config = 'cancel_grace = "200ms"\nkept_results = 3\nkeep_results_for = "1h"'

    def test_pause_and_resume(self):
        session = self.session()
        self.assertEqual(session.ask("pool_pause"), {"pool": "default", "paused": True})
        request = session.start("square", 3, announce=True)
        task = session.receive("progress").head["task"]
        self.assertEqual(session.ask("ps", {"task": task})["tasks"][0]["state"], "paused")
        self.assertTrue(session.ask("pools")["pools"][0]["paused"])
        self.assertEqual(session.ask("pool_resume"), {"pool": "default", "paused": False})
        self.assertRegex(self.daemon.log(), r"event=audit op=pool_pause uid=\d+ pid=\d+ session=\d+ pool=default outcome=ok")
        self.assertEqual(session.result(request), 9)

    def test_resize(self):
        session = self.session()
        died = self.daemon.counter("workers_died_total")
        for workers in (5, 0, 1, 2):
            self.assertEqual(session.ask("pool_resize", {"workers": workers}), {"pool": "default", "workers": workers})
            eventually(lambda: len(self.daemon.workers(state="idle")) == workers, f"there are {workers}")
        self.assert_fails("bad_message", session.ask, "pool_resize", {"workers": 1025})
        self.assert_fails("bad_message", session.ask, "pool_resize", {})
        self.assertEqual(self.daemon.counter("workers_died_total"), died)

    def test_a_pool_that_is_closed_before_it_has_started_runs_what_it_has(self):
        session = self.session()
        opening, closing = session.new_request(), session.new_request()
        session.send("pool_open", head={"name": "short", "workers": 1}, request=opening)
        request = session.start("square", 5, pool="short")
        session.send("pool_close", head={"pool": "short"}, request=closing)
        self.assertEqual(session.result(request), 25)
        session.receive("ok", request=closing)

    def test_a_map_whose_input_goes_on_after_its_pool_has_closed(self):
        session = self.session()
        session.ask("pool_open", {"name": "gone", "workers": 1})
        request = session.new_request()
        session.send("map", head={"function": "square", "pool": "gone"}, body=pack([b"3"]), encoding=JSON, count=1, request=request)
        session.receive("results", request=request)
        session.ask("pool_close", {"pool": "gone"})
        session.send("input", body=pack([b"4"]), encoding=JSON, count=1, request=request)
        failed = session.receive("failed", request=request)
        self.assertEqual(failed.head["code"], "pool_closed")
        self.assertEqual(session.receive("done", request=request).head, {"total": 2, "succeeded": 1, "failed": 1})

    def test_a_kept_job_outlives_its_pool(self):
        session = self.session()
        read_end, write_end = os.pipe()
        with open(os.devnull) as null:
            session.ask("pool_open", {"name": "kept", "workers": 1}, fds=[null.fileno(), write_end, write_end])
        os.close(write_end)
        task = session.apply("square", 6, pool="kept", detached=True)["task"]
        session.ask("wait", {"task": task})
        session.ask("pool_close", {"pool": "kept"})
        eventually(lambda: "kept" not in [row["pool"] for row in session.ask("pools")["pools"]], "it is forgotten")
        self.assertEqual(os.read(read_end, 1), b"")  # its descriptors are not kept
        os.close(read_end)
        self.assertEqual(session.ask("ps", {"task": task})["tasks"][0]["pool"], "kept")
        fetch = session.new_request()
        session.send("fetch", head={"task": task}, request=fetch)
        self.assertEqual(session.result(fetch), 36)

    def test_a_pool_of_a_session_s_own(self):
        session, other = self.session(), self.session()
        read_end, write_end = os.pipe()
        with open(os.devnull) as null:
            answer = session.ask("pool_open", {"name": "mine", "workers": 1, "runtime": "command", "cwd": "/usr",
                                               "environment": {"COLOUR": "green"}})
            self.assertEqual(answer, {"pool": "mine"})
            result = session.apply("run", ["/bin/sh", "-c", "pwd; echo $COLOUR"], pool="mine")
            self.assertEqual(result["stdout"].split(), ["/usr", "green"])
            session.ask("pool_open", {"name": "printing", "workers": 1}, fds=[null.fileno(), write_end, write_end])
        os.close(write_end)
        session.apply("print", "hello", pool="printing")
        self.assert_fails("unknown_pool", other.apply, "square", 1, pool="printing")
        self.assert_fails("limit_reached", session.ask, "pool_open", {"name": "mine"})
        self.assertEqual(session.ask("pool_close", {"pool": "printing"}), {})
        self.assertEqual(os.read(read_end, 100), b"hello\n")
        self.assertEqual(os.read(read_end, 100), b"")  # its workers are gone
        os.close(read_end)
        self.assert_fails("unknown_pool", session.apply, "print", "x", pool="printing")
        pid = next(row["pid"] for row in self.daemon.workers() if row["pool"] == "mine")
        session.close()
        eventually(lambda: not is_alive(pid), "it ends with its session")
        eventually(lambda: "mine" not in [row["pool"] for row in other.ask("pools")["pools"]], "it is gone")

    def test_pools_that_cannot_be_opened(self):
        session = self.session()
        for code, head in (("bad_argument", {"runtime": "odd"}), ("start_failed", {"modules": ["/nonexistent.so"]}),
                           ("bad_message", {"workers": 1025}), ("bad_message", {"cwd": 7}), ("start_failed", {"cwd": "/nonexistent"})):
            with self.subTest(**head):
                self.assert_fails(code, session.ask, "pool_open", head)
        self.assert_fails("permission_denied", session.ask, "pool_close", {"pool": "default"})
        self.assert_fails("unknown_pool", session.ask, "pool_close", {"pool": "nowhere"})
        eventually(lambda: len(session.ask("pools")["pools"]) == 1, "none is left")

    def test_closing_runs_what_is_queued_or_not(self):
        session = self.session()
        for terminate in (False, True):
            with self.subTest(terminate=terminate):
                pool = session.ask("pool_open", {"workers": 1})["pool"]
                requests = [session.start("sleep", 0.1 if not terminate else 60, pool=pool) for _ in range(3)]
                eventually(lambda: [row for row in self.daemon.workers(state="running") if row["pool"] == pool], "it runs")
                session.ask("pool_close", {"pool": pool, "terminate": terminate})
                outcomes = [session.receive("result", "error", request=request) for request in requests]
                self.assertEqual({outcome.op for outcome in outcomes}, {"error"} if terminate else {"result"})
                if terminate:
                    self.assertEqual({outcome.head["code"] for outcome in outcomes}, {"cancelled"})

    def test_results_are_kept_up_to_a_count(self):
        session = self.session()
        tasks = []
        for x in range(5):
            tasks.append(session.apply("square", x, detached=True)["task"])
            session.ask("wait", {"task": tasks[-1]}) if x < 3 else eventually(
                lambda: self.daemon.counter("tasks_running") + self.daemon.counter("tasks_waiting") == 0, "it has run")
        kept = []
        for x, task in enumerate(tasks):
            request = session.new_request()
            session.send("fetch", head={"task": task}, request=request)
            try:
                kept.append((x, session.result(request)))
            except Failed as error:
                self.assertEqual(error.code, "unknown_task")
        self.assertEqual(kept, [(2, 4), (3, 9), (4, 16)])

    def test_wait_has_a_limit(self):
        session = self.session()
        task = session.apply("sleep", 60, detached=True)["task"]
        self.assert_fails("timed_out", session.ask, "wait", {"task": task, "timeout_ms": 30})
        self.assert_fails("unknown_task", session.ask, "wait", {"task": "nonsense"})
        session.ask("cancel", {"task": task, "force": True})

    def test_failures_that_nobody_collects_are_listed(self):
        session = self.session()
        total = session.ask("failures")["total"]
        task = session.apply("fail", "nobody saw it", detached=True)["task"]
        session.ask("wait", {"task": task})
        lost = self.daemon.session()
        lost.start_map("fail", ["gone"] * 3 + ["late"])
        lost.ask("ping")
        lost.close()
        listed = session.ask("failures", {"limit": 1000})
        self.assertGreaterEqual(listed["total"], total)
        self.assertTrue(all({"task", "function", "pool", "code", "detail", "ended_ms_ago"} <= row.keys() for row in listed["failures"]))
        self.assert_fails("bad_message", session.ask, "failures", {"limit": 1001})

    def test_a_body_too_large_to_be_kept(self):
        session = self.session()
        segment = session.open_arena(4 << 20)
        request = session.new_request()
        session.send("apply", head={"function": "byte_count", "detached": True}, body=self.reference(segment, 2 << 20), encoding=2, count=1,
                     flags=1, request=request)
        self.assertIn("detached_body_bytes", self.assert_fails("body_too_large", session.result, request).detail)

    @staticmethod
    def reference(segment, size):
        return segment.to_bytes(8, "little") + bytes(8) + size.to_bytes(8, "little")


NESTED = """
import os, sys
sys.path.insert(0, {support!r})
from wire import Session
with Session(os.environ["TASKPOOL_SOCKET"], worker_token=os.environ["TASKPOOL_WORKER_TOKEN"]) as session:
    session.send("nested_wait", target=1)
    print({body})
    session.send("nested_wait", target=0)
"""


class Nesting(Story):
    config = "max_nesting = 3\nmax_lent_workers = 6"
    pools = [{"name": "command", "runtime": "command", "workers": 1}, {"name": "default", "workers": 1}]

    def program(self, body):
        support = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support")
        return ["/usr/bin/python3", "-c", NESTED.format(support=support, body=body)]

    def run_program(self, body):
        return self.session().apply("run", self.program(body), pool="command", timeout_ms=20_000)

    def test_a_task_waits_for_a_task_of_the_same_one_worker_pool(self):
        result = self.run_program("session.apply('run', ['echo', 'inner'], pool='command')['stdout'].strip()")
        self.assertEqual((result["stdout"], result["exit_code"]), ("inner\n", 0), result["stderr"])
        eventually(lambda: len([row for row in self.daemon.workers("command")]) == 1, "the lent worker is gone")

    def test_who_lent_its_place_stays(self):
        """It may hold a lock for later tasks; its stand-in goes, even one that comes after the wait has ended."""
        (before,) = self.daemon.workers("command", state="idle")
        for body in ["None"] * 10 + ["session.apply('run', ['echo', 'inner'], pool='command')"]:
            self.assertEqual(self.run_program(body)["exit_code"], 0)
            (after,) = eventually(self.only_worker, "the stand-in is gone")
            self.assertEqual(after["pid"], before["pid"], body)

    def only_worker(self):
        rows = self.daemon.workers("command")
        return rows if len(rows) == 1 and rows[0]["state"] == "idle" else None

    def test_a_place_is_given_back_once_though_zygote_and_session_end(self):
        session = self.session()
        for _ in range(10):
            request = session.start("run", self.program("session.apply('sleep', 60, pool='default')"), pool="command")
            lent = eventually(lambda: self.daemon.workers("command", state="lent"), "it waits")
            os.kill(parent_of(lent[0]["pid"]), signal.SIGKILL)  # its workers are given up before they, and their sessions, have ended
            with self.assertRaises(Failed):
                session.result(request)
            eventually(lambda: not self.daemon.workers("default", state="busy"), "its session has ended")
        result = self.run_program("session.apply('run', ['echo', 'inner'], pool='command')['stdout'].strip()")
        self.assertEqual(result["stdout"], "inner\n", result["stderr"])

    def test_too_deep(self):
        program = ["echo", "bottom"]
        for _ in range(5):
            program = self.program(f"session.apply('run', {program!r}, pool='command')")
        result = self.session().apply("run", program, pool="command", timeout_ms=30_000)
        self.assertIn("nesting_too_deep", json.dumps(result))
        self.assertNotIn('"bottom', json.dumps(result))

    def test_a_token_of_nobody_is_a_plain_session(self):
        session = self.session(worker_token="nonsense")
        session.send("nested_wait", target=1)
        self.assertEqual(session.apply("square", 3, pool="default"), 9)


class NestingWithinSlots(Nesting):
    """A task that waits for one of its own takes no slot meanwhile."""

    config = Nesting.config + f"\n[quota.{os.getuid()}]\nrunning_slots = 1"


if __name__ == "__main__":
    unittest.main()
