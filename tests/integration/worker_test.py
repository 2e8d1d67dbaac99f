#!/usr/bin/python3
"""Workers and zygotes that misbehave, die or cannot start: who is told, and that nothing else suffers."""

import os
import signal
import time
import unittest

from story import BYTES, IN_ARENA, LAST, REFERENCE, SANITIZED, Daemon, Failed, Story, eventually, is_alive, pack, parent_of
from library import Library


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid):
    """The processes that a process has started and that are still its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Misbehaving(Story):
    config = 'cancel_grace = "200ms"'

    def test_exit(self):
        session = self.session()
        for code in (0, 3):
            error = self.assert_fails("worker_lost", session.apply, "leave", code)
            self.assertIn(f"exit code {code}", error.detail)
            self.assertEqual(error.head.get("exit_code", 0), code)
        self.assertEqual(session.apply("square", 3), 9)

    def test_standard_output_is_not_the_channel(self):
        session = self.session()
        for _ in range(20):
            session.apply("print", "taskpool" * 1000)
        self.assertEqual(session.apply("square", 3), 9)

    def test_all_descriptors_closed(self):
        session = self.session()
        try:
            self.assertEqual(session.apply("close_all", 1), 1)  # its result is found in its outbox
        except Failed as error:
            self.assertEqual(error.code, "worker_lost")
        found, done = session.map("square", range(1000))
        self.assertEqual((done["succeeded"], found[999]), (1000, 999 * 999))

    def test_a_fork_that_returns_twice_gives_one_result(self):
        session = self.session()
        for x in range(1, 20):
            self.assertEqual(session.apply("fork_twice", x), x)
        found, _ = session.map("fork_twice", range(1, 20))
        self.assertEqual(found, {index: index + 1 for index in range(19)})

    def test_a_stopped_worker_meets_its_timeout(self):
        session = self.session()
        request = session.start("sleep", 30, timeout_ms=300)
        busy = eventually(lambda: self.daemon.workers(state="running"), "it runs")
        os.kill(busy[0]["pid"], signal.SIGSTOP)
        self.assert_fails("timed_out", session.result, request)
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "it is replaced")

    def test_a_worker_that_is_stopped_before_it_begins_keeps_no_task(self):
        session = self.session()
        workers = eventually(lambda: len(self.daemon.workers(state="idle")) == 2 and self.daemon.workers(), "both are there")
        for worker in workers:
            os.kill(worker["pid"], signal.SIGSTOP)
        found, _ = session.map("square", range(100))
        self.assertEqual(found[99], 9801)
        self.assertFalse({worker["pid"] for worker in workers} & {worker["pid"] for worker in self.daemon.workers()})
        self.assertIn("event=worker_stopped", self.daemon.log())

    def test_an_idle_worker_that_dies_is_replaced(self):
        before = {row["pid"] for row in eventually(lambda: self.daemon.workers(state="idle"), "workers")}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        session = self.session()
        self.assertEqual(session.apply("square", 5), 25)
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "both are replaced")
        self.assertFalse(before & {row["pid"] for row in self.daemon.workers()})

    def test_a_killed_zygote_loses_what_ran_and_the_next_takes_over(self):
        session = self.session()
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "both are there")
        requests = [session.start("sleep", 30), session.start("sleep", 30)]
        again = session.start("square", 6)
        eventually(lambda: len(self.daemon.workers(state="running")) == 2, "both run")
        generation = self.daemon.workers()[0]["generation"]
        os.kill(parent_of(self.daemon.workers("default")[0]["pid"]), signal.SIGKILL)
        for request in requests:
            self.assertIn("zygote", self.assert_fails("worker_lost", session.result, request).detail)
        self.assertEqual(session.result(again), 36)
        self.assertGreater(min(row["generation"] for row in self.daemon.workers()), generation)

    def test_a_closing_pool_goes_on_after_its_zygote_s_death(self):
        session = self.session()
        session.ask("pool_open", {"name": "closing", "workers": 1})
        request = session.start_map("sleep", [0.2] * 4, pool="closing", lost_retries=1, retry_delay_ms=1)
        eventually(lambda: session.ask("workers", {"pool": "closing"})["workers"][0].get("run_ms"), "it runs")
        zygote = parent_of(session.ask("workers", {"pool": "closing"})["workers"][0]["pid"])
        closing = session.new_request()
        session.send("pool_close", head={"pool": "closing"}, request=closing)
        os.kill(zygote, signal.SIGKILL)
        self.assertEqual(session.outcomes(request)[1]["succeeded"], 4)
        session.receive("ok", request=closing)

    def test_a_stopped_zygote_does_not_keep_an_error_from_its_caller(self):
        session = self.session()
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "both are there")
        zygote = parent_of(self.daemon.workers("default")[0]["pid"])
        os.kill(zygote, signal.SIGSTOP)
        try:
            began = time.monotonic()
            self.assert_fails("worker_lost", session.apply, "crash", 9)
            self.assertLess(time.monotonic() - began, 2)
        finally:
            os.kill(zygote, signal.SIGCONT)
        self.assertEqual(session.apply("square", 3), 9)


class Leaks(Story):
    def test_no_descriptor_is_left_of_200_deaths(self):
        session = self.session()
        pid = self.daemon.process.pid
        session.apply("square", 1)
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "two workers")
        before = descriptors(pid)
        zygote = parent_of(self.daemon.workers("default")[0]["pid"])
        before_zygote = descriptors(zygote)
        for _ in range(200):
            self.assert_fails("worker_lost", session.apply, "crash", 9)
        eventually(lambda: len(self.daemon.workers(state="idle")) == 2, "two workers")
        eventually(lambda: descriptors(pid) <= before, "its descriptors are closed")
        eventually(lambda: descriptors(zygote) <= before_zygote, "the zygote's too")
        self.assertEqual(self.daemon.counter("workers_died_total"), 200)

    def test_no_descriptor_or_memory_is_left_of_200_sessions(self):
        pid = self.daemon.process.pid
        with self.daemon.session() as session:
            session.apply("square", 1)
        eventually(lambda: self.daemon.counter("sessions_open") == 1, "it is gone")
        before = descriptors(pid)
        for round_number in range(200):
            with self.daemon.session() as session:
                segment = session.open_arena(1 << 20)
                request = session.new_request()
                session.send("apply", head={"function": "echo"}, body=REFERENCE.pack(segment, 0, 100_000), flags=1, encoding=2,
                             count=1, request=request)
                if round_number % 2:
                    session.result(request)
        eventually(lambda: self.daemon.counter("sessions_open") == 1, "they are gone")
        eventually(lambda: descriptors(pid) <= before, "their descriptors are closed")
        eventually(lambda: self.daemon.counter("jobs_known") == 0, "their jobs are gone")
        self.assertEqual(self.daemon.counter("arena_bytes"), 0)
        for row in self.daemon.workers():
            eventually(lambda: "taskpool-up" not in self.maps(row["pid"]), "the workers have unmapped their arenas")

    @staticmethod
    def maps(pid):
        with open(f"/proc/{pid}/maps") as maps:
            return maps.read()


class SessionDeath(Story):
    config = 'cancel_grace = "200ms"'

    def test_it_cancels_its_tasks_and_frees_everything(self):
        session = self.daemon.session()
        session.start_map("spin", [30_000_000] * 50)
        session.start("sleep", 30)
        eventually(lambda: len(self.daemon.workers(state="running")) == 2, "it runs")
        session.close()
        eventually(lambda: self.daemon.counter("jobs_known") == 0, "its jobs are gone")
        self.assertEqual(self.daemon.counter("tasks_waiting"), 0)
        self.assertEqual(self.session().apply("square", 3), 9)

    def test_a_job_whose_input_is_open_ends_too(self):
        session = self.daemon.session()
        request = session.new_request()
        session.send("map", head={"function": "square", "detached": True}, body=pack([b"1"]), encoding=1, count=1, request=request)
        task = session.result(request)["task"]
        session.close()
        with self.session() as other:
            self.assertIn(other.ask("wait", {"task": task})["state"], ("cancelled", "failed", "succeeded"))
            with self.assertRaises((Failed, KeyError)):
                other.outcomes(self.fetch(other, task))
                raise KeyError

    def test_detached_tasks_survive(self):
        session = self.daemon.session()
        session.ask("pool_pause")
        task = session.apply("square", 9, detached=True)["task"]
        job = session.new_request()
        session.send("map", head={"function": "square", "detached": True}, body=pack([b"2", b"3"]), encoding=1, count=2,
                     flags=LAST, request=job)
        job = session.result(job)["task"]
        session.close()
        other = self.session()
        self.assert_fails("not_finished", other.result, self.fetch(other, task))
        other.ask("pool_resume")
        self.assertEqual(other.ask("wait", {"task": task})["state"], "succeeded")
        self.assertEqual(other.result(self.fetch(other, task, keep=True)), 81)
        self.assertEqual(other.result(self.fetch(other, task)), 81)
        self.assert_fails("unknown_task", other.result, self.fetch(other, task))
        other.ask("wait", {"task": job})
        self.assertEqual(other.outcomes(self.fetch(other, job))[0], {0: 4, 1: 9})

    @staticmethod
    def fetch(session, task, **options):
        request = session.new_request()
        session.send("fetch", head={"task": task, **options}, request=request)
        return request


class Recycling(Story):
    pools = [{"name": "few", "workers": 1, "max_tasks_per_worker": 10},
             {"name": "small", "workers": 1, "max_worker_memory": "1MiB"}]

    def test_after_so_many_tasks(self):
        session = self.session()
        found, done = session.map("describe", [[]] * 95)
        self.assertEqual(done["succeeded"], 95)
        counts = {}
        for value in found.values():
            counts[value["worker"]] = counts.get(value["worker"], 0) + 1
        self.assertEqual(sorted(counts.values()), [5] + [10] * 9)
        self.assertEqual(self.daemon.counter("workers_died_total"), 0)

    def test_above_so_much_memory(self):
        session = self.session()
        worker = session.apply("describe", [], pool="small")["worker"]
        eventually(lambda: session.apply("describe", [], pool="small")["worker"] != worker, "it is replaced")
        eventually(lambda: self.daemon.counter("workers_recycled_total") > 0, "the old one has gone")


class Starting(unittest.TestCase):
    def refuse(self, named, config="", **pool):
        """Starts a daemon that cannot, and checks what it says."""
        daemon = Daemon(config, pools=[{"name": "default", "workers": 1, **pool}])
        try:
            daemon.start(wait=False)
            code = daemon.wait()
            self.assertNotEqual(code, 0)
            self.assertIn(named, daemon.log())
            self.assertFalse(os.path.exists(daemon.socket))
        finally:
            daemon.__exit__(None)

    def test_a_module_that_is_not_there(self):
        self.refuse("/nonexistent/module.so", modules=["/nonexistent/module.so"])

    def test_a_module_that_does_not_load(self):
        self.refuse(__file__, modules=[os.path.abspath(__file__)])

    def test_a_library_that_is_no_module_or_of_another_abi(self):
        with self.compile("int other;") as library:
            self.refuse(library.path, modules=[library.path])

    def test_a_runtime_that_is_not_there(self):
        self.refuse("nonexistent-runtime", '[runtime.odd]\ncommand = ["nonexistent-runtime"]\n', runtime="odd", modules=[])

    def test_an_initializer_that_there_is_not(self):
        self.refuse("no_such_initializer", initializer="no_such_initializer")

    def test_an_initializer_that_fails(self):
        self.refuse("bad luck", initializer="fail", initializer_arguments='["bad luck"]')

    def test_a_module_of_another_abi(self):
        source = ('#include "proto/module_abi.h"\nstatic const struct taskpool_module module = {.abi_version = 42};\n'
                  'const struct taskpool_module* taskpool_get_module(void) { return &module; }')
        with self.compile(source) as library:
            self.refuse(f"module {library.path}: was built for ABI version 42", modules=[library.path])

    def compile(self, text):
        return Library(text)


class Initializers(Story):
    def test_each_worker_runs_it(self):
        session = self.session()
        pool = session.ask("pool_open", {"workers": 2, "initializer": "initialize", "initializer_arguments": [42]})["pool"]
        self.assertEqual(session.apply("initialized", [], pool=pool), 42)
        self.assert_fails("worker_lost", session.apply, "crash", 9, pool=pool)
        self.assertEqual(session.apply("initialized", [], pool=pool), 42)

    def test_one_with_a_large_result_that_nobody_wants(self):
        session = self.session()
        pool = session.ask("pool_open", {"workers": 1, "initializer": "big_result", "initializer_arguments": [1 << 20]})["pool"]
        self.assertEqual(session.apply("square", 7, pool=pool), 49)
        self.assertEqual(self.daemon.workers(pool)[0]["tasks_done"], 1)

    def test_one_that_fails_is_the_answer_and_is_not_tried_for_ever(self):
        session = self.session()
        error = self.assert_fails("start_failed", session.ask, "pool_open",
                                  {"workers": 2, "initializer": "fail", "initializer_arguments": ["bad luck"]})
        self.assertIn("bad luck", error.detail)
        eventually(lambda: len(session.ask("pools")["pools"]) == 1, "it is gone")

    def test_one_that_fails_later_is_tried_again_after_pauses(self):
        path = os.path.join(self.daemon.directory, "needed")
        with open(path, "w") as file:
            file.write("words")
        session = self.session()
        pool = session.ask("pool_open", {"workers": 1, "initializer": "word_count", "initializer_arguments": [path]})["pool"]
        os.remove(path)
        started = self.daemon.counter("workers_started_total")
        self.assert_fails("worker_lost", session.apply, "crash", 9, pool=pool)
        waiting = session.start("square", 8, pool=pool)
        row = eventually(lambda: next((row for row in session.ask("pools")["pools"] if row["pool"] == pool and row.get("last_error")), None),
                         "it is reported")
        self.assertIn("needed", row["last_error"])
        eventually(lambda: self.daemon.counter("workers_started_total") >= started + 3, "it is tried again")
        with open(path, "w") as file:
            file.write("words")
        self.assertEqual(session.result(waiting), 64)
        self.assertLess(self.daemon.counter("workers_started_total"), started + 12)


class InArenas(Story):
    def test_a_worker_killed_while_it_reads_a_body(self):
        session = self.session()
        segment = session.open_arena(4 << 20)
        session.up[segment][:4 << 20] = b"a" * (4 << 20)
        reference = REFERENCE.pack(segment, 0, 4 << 20)
        for lost_retries in (0, 1):
            with self.subTest(lost_retries=lost_retries):
                request = session.new_request()
                session.send("apply", head={"function": "read_on", "lost_retries": lost_retries, "retry_delay_ms": 1},
                             body=reference, encoding=BYTES, count=1, flags=IN_ARENA, request=request)
                busy = eventually(lambda: [row for row in self.daemon.workers(state="running") if row.get("function")], "it reads")
                os.kill(busy[0]["pid"], signal.SIGKILL)
                if lost_retries:
                    self.assertEqual(session.result(request), 0)  # its second run found the body as it was
                else:
                    self.assertEqual(self.assert_fails("worker_lost", session.result, request).head["signal"], 9)
        # The region is the client's again: nobody reads it any more.
        session.up[segment][:4 << 20] = b"b" * (4 << 20)
        request = session.new_request()
        session.send("apply", head={"function": "byte_count"}, body=reference, encoding=BYTES, count=1, flags=IN_ARENA,
                     request=request)
        self.assertEqual(session.result(request), 4 << 20)


class MemoryGroup:
    """A control group with a bound on memory, of either version; skips the test where there can be none."""

    def __init__(self, limit):
        self.path = None
        for root, bound, swap in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", limit)),
                                  ("/sys/fs/cgroup", "memory.max", ("memory.swap.max", 0))):
            path = os.path.join(root, f"taskpool-test-{os.getpid()}")
            try:
                os.mkdir(path)
            except OSError:
                continue
            try:
                for name, value in ((bound, limit), swap):
                    if name == bound or os.path.exists(os.path.join(path, name)):  # without swap there is none to bound
                        with open(os.path.join(path, name), "w") as file:
                            file.write(str(value))
                self.path = path
                return
            except OSError:
                os.rmdir(path)
        raise unittest.SkipTest("SKIPPED: this process may not make a control group with a bound on memory")

    def enter(self):
        """Moves the calling process into it."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))

    def remove(self):
        def removed():
            try:
                os.rmdir(self.path)
            except OSError:
                return False
            return True
        eventually(removed, "the group is empty")


class OutOfMemory(unittest.TestCase):
    @unittest.skipIf(SANITIZED, "SKIPPED: a sanitizer's own memory does not fit the bound")
    def test_a_task_that_takes_too_much_loses_its_worker_and_nothing_else(self):
        group = MemoryGroup(96 << 20)
        self.addCleanup(group.remove)
        with Daemon(pools=[{"name": "default", "workers": 2}], before_exec=group.enter) as daemon, daemon.session() as session:
            with self.assertRaises(Failed) as caught:
                session.apply("allocate", 1 << 30)
            self.assertEqual((caught.exception.code, caught.exception.head["signal"]), ("worker_lost", 9))
            self.assertRegex(caught.exception.detail, r"the kernel killed \d+ process(es)? of this host for want of memory")
            self.assertEqual(session.apply("square", 3), 9)
            self.assertEqual(daemon.counter("zygotes_died_total"), 0)


class SupervisorDeath(unittest.TestCase):
    def test_all_workers_and_zygotes_end_within_a_second(self):
        daemon = Daemon(pools=[{"name": "default", "workers": 3}, {"name": "command", "runtime": "command", "workers": 2}])
        try:
            daemon.start()
            session = daemon.session()
            session.start("spin", 60_000_000)
            session.start("sleep", 60)
            eventually(lambda: len(daemon.workers(state="running")) == 2, "they run")
            pids = [row["pid"] for row in daemon.workers()] + children(daemon.process.pid)
            self.assertEqual(len(pids), 7)
            daemon.stop(signal.SIGKILL)
            eventually(lambda: not any(is_alive(pid) for pid in pids), "all are gone", 1.5)
            session.close()
        finally:
            daemon.__exit__(None)


if __name__ == "__main__":
    unittest.main()
