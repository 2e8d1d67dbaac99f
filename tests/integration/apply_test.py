#!/usr/bin/python3
"""Single calls: what they answer, what bad ones get, limits, repeats, order, and joining."""

import array
import os
import time
import unittest

from story import BYTES, IN_ARENA, JSON, NONE, REFERENCE, Story, eventually

F64 = 25


class Answers(Story):
    def test_results_of_every_encoding(self):
        session = self.session()
        self.assertEqual(session.apply("square", 7), 49)
        self.assertEqual(session.apply("add", [2, 3]), 5)
        self.assertEqual(session.apply("echo", {"a": [1, None, "\u00e4"]}), {"a": [1, None, "\u00e4"]})
        self.assertEqual(session.result(session.start("echo", body=b"\0\xff", encoding=BYTES)), b"\0\xff")
        self.assertEqual(session.apply("count_letters", "abca"), {"a": 2, "b": 1, "c": 1})

    def test_an_array_is_one_argument(self):
        session = self.session()
        numbers = array.array("d", [1.5, 2.5, 3.0])
        request = session.new_request()
        session.send("apply", head={"function": "sum"}, body=numbers.tobytes(), encoding=F64, count=3, request=request)
        self.assertEqual(session.result(request), 7.0)

    def test_a_large_argument_travels_in_the_arena_and_so_does_its_echo(self):
        session = self.session()
        segment = session.open_arena(3 << 20)
        data = os.urandom(3 << 20)
        session.up[segment][:len(data)] = data
        request = session.new_request()
        session.send("apply", head={"function": "echo"}, body=REFERENCE.pack(segment, 0, len(data)), encoding=BYTES, count=1,
                     flags=IN_ARENA, request=request)
        self.assertEqual(session.result(request), data)

    def test_pipelined_calls_all_answer(self):
        session = self.session()
        requests = [session.start("square", x) for x in range(3000)]
        self.assertEqual([session.result(request) for request in requests], [x * x for x in range(3000)])


class BadInput(Story):
    def test_an_unknown_function_has_near_names(self):
        error = self.assert_fails("unknown_function", self.session().apply, "sqare", 1)
        self.assertIn("'sqare'", error.detail)
        self.assertIn("did you mean 'square'", error.detail)

    def test_an_unknown_pool(self):
        self.assertIn("'nowhere'", self.assert_fails("unknown_pool", self.session().apply, "square", 1, pool="nowhere").detail)

    def test_wrong_arguments_name_the_argument(self):
        session = self.session()
        for function, argument, named in (("square", "x", "x"), ("square", 1.5, "x"), ("add", [1], "2"), ("add", [1, "b"], "b"),
                                          ("half", 300, "x"), ("square", 1 << 70, "x"), ("greet", 7, "1")):
            with self.subTest(function=function, argument=argument):
                self.assertIn(named, self.assert_fails("bad_argument", session.apply, function, argument).detail)

    def test_malformed_json_items(self):
        session = self.session()
        for item in (b"{", b"[1,", b"nul", b"\xff", b"1 2", b"[" * 1000):
            with self.subTest(item=item[:8]):
                self.assert_fails("bad_argument", session.result, session.start("square", body=item))
        self.assertEqual(session.apply("square", 3), 9)

    def test_an_exception_has_its_type_and_message(self):
        error = self.assert_fails("task_failed", self.session().apply, "fail", "no \u00e4pples")
        self.assertEqual((error.detail, error.head["type"]), ("no \u00e4pples", "std::runtime_error"))
        self.assertTrue(error.head["task"])
        self.assert_fails("task_failed", self.session().apply, "throw_number", [])

    def test_a_result_that_cannot_be_encoded(self):
        self.assert_fails("not_encodable", self.session().apply, "not_encodable", [])

    def test_a_body_over_the_limit(self):
        session = self.session()
        error = self.assert_fails("body_too_large", session.result, session.start("echo", body=b"1" * 65537))
        self.assertIn("65537", error.detail)
        self.assertEqual(session.result(session.start("echo", body=b"1" * 65536, encoding=BYTES)), b"1" * 65536)

    def test_a_body_that_is_not_what_the_prefix_says(self):
        session = self.session()
        for name, fields in (("count of two", dict(count=2, body=b"1", encoding=JSON)),
                             ("count of none", dict(count=0, body=b"1", encoding=JSON)),
                             ("part of an element", dict(count=1, body=b"1234567", encoding=F64)),
                             ("bytes without encoding", dict(count=1, body=b"1", encoding=NONE)),
                             ("half a reference", dict(count=1, body=b"1" * 12, encoding=BYTES, flags=IN_ARENA)),
                             ("two references", dict(count=1, body=REFERENCE.pack(0, 0, 0) * 2, encoding=BYTES, flags=IN_ARENA))):
            with self.subTest(name):
                request = session.new_request()
                session.send("apply", head={"function": "echo"}, request=request, **fields)
                self.assert_fails("bad_message", session.result, request)

    def test_bad_options_name_the_field(self):
        session = self.session()
        for options in ({"timeout_ms": -1}, {"timeout_ms": 3.0}, {"timeout_ms": 1 << 31}, {"priority": 101}, {"retries": 1001},
                        {"detached": 1}, {"nonsense": 1}, {"not_before_ms": 5}, {"idempotency_key": "k" * 129},
                        {"function": None}):
            with self.subTest(options=options):
                error = self.assert_fails("bad_message", session.result, session.start(**{"function": "square", "argument": 1, **options}))
                self.assertIn(next(iter(options)), error.detail)

    def test_an_op_without_fields_refuses_them(self):
        session = self.session()
        for op in ("ping", "pools", "stats", "reload"):
            with self.subTest(op):
                self.assertIn("surprise", self.assert_fails("bad_message", session.ask, op, {"surprise": 1}).detail)


class Prepared(Story):
    def test_it_may_be_used_before_the_reply_and_replaced_and_forgotten(self):
        session = self.session()
        binding = session.new_request()
        session.send("prepare", head={"function": "square"}, target=5, request=binding)
        early = self.use(session, 5, b"6")
        again = session.new_request()
        session.send("prepare", head={"function": "echo"}, target=5, request=again)
        echoed = self.use(session, 5, b"6")
        session.send("forget", target=5)
        forgotten = self.use(session, 5, b"6")
        self.assertEqual(session.result(binding), {})
        self.assertEqual(session.result(early), 36)
        self.assertEqual(session.result(again), {})
        self.assertEqual(session.result(echoed), 6)
        self.assertIn("5", self.assert_fails("bad_message", session.result, forgotten).detail)

    def test_a_failed_preparation_fails_each_use_alike(self):
        session = self.session()
        binding = session.new_request()
        session.send("prepare", head={"function": "sqare"}, target=1, request=binding)
        uses = [self.use(session, 1, b"1"), self.use(session, 1, b"2")]
        for request in (binding, *uses):
            self.assertIn("square", self.assert_fails("unknown_function", session.result, request).detail)

    def test_numbers_out_of_range(self):
        session = self.session()
        for number in (0, 4097, 0xffffffff):
            request = session.new_request()
            session.send("prepare", head={"function": "square"}, target=number, request=request)
            self.assertIn("4096", self.assert_fails("bad_message", session.result, request).detail)
        self.assert_fails("bad_message", session.result, self.use(session, 4096, b"1"))

    def test_a_head_beside_a_number(self):
        session = self.session()
        session.ask("prepare", {"function": "square"}, target=1)
        request = session.new_request()
        session.send("apply", target=1, head={"priority": 1}, body=b"1", encoding=JSON, count=1, request=request)
        self.assertIn("head", self.assert_fails("bad_message", session.result, request).detail)

    @staticmethod
    def use(session, number, item):
        request = session.new_request()
        session.send("apply", target=number, body=item, encoding=JSON, count=1, request=request)
        return request


class Progress(Story):
    def test_announce_tells_the_id_and_what_the_task_reports(self):
        session = self.session()
        request = session.start("report", 3, announce=True)
        first = session.receive("progress", request=request).head
        self.assertNotIn("done", first)
        session.result(request)
        reports = [frame.head for frame in session.frames if frame.op == "progress"]
        self.assertEqual({report["task"] for report in reports}, {first["task"]})
        done = [report["done"] for report in reports]  # what comes too fast is left out, but never the last
        self.assertEqual((done, done[-1]), (sorted(done), 3))
        self.assertEqual(reports[0]["message"], "step")

    def test_nobody_else_is_told(self):
        session = self.session()
        session.apply("report", 3)
        self.assertFalse(session.frames)


class Limits(Story):
    config = 'cancel_grace = "200ms"'

    def test_a_hard_timeout_kills_the_worker(self):
        session = self.session()
        began = time.monotonic()
        error = self.assert_fails("timed_out", session.apply, "spin", 30_000_000, timeout_ms=100)
        self.assertIn("timeout_ms", error.detail)
        self.assertTrue(0.1 <= time.monotonic() - began < 5)
        self.assertEqual(session.apply("square", 5), 25)

    def test_a_soft_timeout_asks(self):
        session = self.session()
        died = self.daemon.counter("workers_died_total")
        self.assertIn("soft_timeout_ms", self.assert_fails("timed_out", session.apply, "sleep", 30, soft_timeout_ms=50).detail)
        self.assertEqual(session.apply("wait_interrupt", "call", soft_timeout_ms=50), "interrupted")
        self.assertEqual(self.daemon.counter("workers_died_total"), died)

    def test_what_ignores_the_soft_timeout_meets_the_hard_one(self):
        error = self.assert_fails("timed_out", self.session().apply, "spin", 30_000_000, soft_timeout_ms=20, timeout_ms=100)
        self.assertIn("timeout_ms", error.detail)

    def test_cancel_asks_first_and_kills_after_the_grace(self):
        session = self.session()
        for function, argument in (("sleep", 30), ("spin", 30_000_000)):
            with self.subTest(function):
                request = session.start(function, argument)
                eventually(lambda: self.daemon.workers(state="running"), "it runs")
                self.assertEqual(session.ask("cancel", {"request": request}), {"cancelled": 1})
                self.assert_fails("cancelled", session.result, request)

    def test_cancel_by_force_kills_at_once(self):
        session = self.session()
        request = session.start("spin", 30_000_000, announce=True)
        task = session.receive("progress").head["task"]
        eventually(lambda: self.daemon.workers(state="running"), "it runs")
        self.session().ask("cancel", {"task": task, "force": True})
        self.assert_fails("cancelled", session.result, request)

    def test_cancel_of_what_has_not_begun_lets_the_rest_run(self):
        session = self.session()
        request = session.start("sleep", 0.5)
        eventually(lambda: self.daemon.workers(state="running"), "it runs")
        self.assertEqual(session.ask("cancel", {"request": request, "waiting": True}), {"cancelled": 0})
        self.assertEqual(session.result(request), 0.5)  # longer than the grace

        request = session.start_map("sleep", [0.5] * 10)
        eventually(lambda: self.daemon.workers(state="running"), "some of it runs")
        reached = session.ask("cancel", {"request": request, "waiting": True})["cancelled"]
        self.assertGreater(reached, 0)
        self.assertEqual(session.outcomes(request)[1], {"total": 10, "succeeded": 10 - reached, "failed": 0, "cancelled": reached})

    def test_cancel_of_what_has_not_begun_and_then_of_the_rest(self):
        session = self.session()
        request = session.start_map("sleep", [30] * 6)
        eventually(lambda: len(self.daemon.workers(state="running")) == 2, "they run")
        self.assertEqual(session.ask("cancel", {"request": request, "waiting": True}), {"cancelled": 4})
        self.assertEqual(session.ask("cancel", {"request": request, "waiting": True}), {"cancelled": 0})
        self.assertEqual(session.ask("cancel", {"request": request}), {"cancelled": 2})
        self.assertEqual(session.outcomes(request)[1], {"total": 6, "succeeded": 0, "failed": 0, "cancelled": 6})

    def test_cancel_of_what_is_not_there(self):
        session = self.session()
        self.assertEqual(session.ask("cancel", {"request": 999}), {"cancelled": 0})
        self.assert_fails("unknown_task", session.ask, "cancel", {"task": "no-such"})
        self.assert_fails("bad_message", session.ask, "cancel", {})
        self.assert_fails("bad_message", session.ask, "cancel", {"request": 1, "task": "x"})
        self.assert_fails("bad_message", session.ask, "cancel", {"request": 1, "force": True, "waiting": True})


class Repeats(Story):
    def test_errors_are_repeated_with_growing_delays(self):
        session = self.session()
        before = self.daemon.counter("tasks_retried_total")
        began = time.monotonic()
        self.assert_fails("task_failed", session.apply, "fail", "again", retries=3, retry_delay_ms=40, lost_retries=9)
        self.assertGreaterEqual(time.monotonic() - began, 0.040 + 0.080 + 0.160)
        self.assertEqual(self.daemon.counter("tasks_retried_total"), before + 3)

    def test_a_repeat_may_succeed(self):
        path = os.path.join(self.daemon.directory, "late")
        session = self.session()
        before = self.daemon.counter("tasks_retried_total")
        request = session.start("word_count", path, retries=100, retry_delay_ms=5)
        eventually(lambda: self.daemon.counter("tasks_retried_total") > before + 1, "it is tried again")
        with open(path + ".new", "w") as file:
            file.write("three short words")
        os.rename(path + ".new", path)
        self.assertEqual(session.result(request), 3)

    def test_bad_arguments_are_not_repeated(self):
        before = self.daemon.counter("tasks_retried_total")
        self.assert_fails("bad_argument", self.session().apply, "square", "x", retries=100)
        self.assertEqual(self.daemon.counter("tasks_retried_total"), before)

    def test_deaths_are_counted_apart_from_errors(self):
        session = self.session()
        before = self.daemon.counter("workers_died_total")
        error = self.assert_fails("worker_lost", session.apply, "crash", 9, retries=100)
        self.assertIn("signal 9", error.detail)
        self.assertEqual(error.head["signal"], 9)
        self.assertEqual(self.daemon.counter("workers_died_total"), before + 1)

    def test_what_killed_two_workers_is_not_run_again(self):
        session = self.session()
        before = self.daemon.counter("workers_died_total")
        self.assert_fails("worker_lost", session.apply, "crash", 11, lost_retries=100, retry_delay_ms=1)
        self.assertEqual(self.daemon.counter("workers_died_total"), before + 2)
        self.assertEqual(session.apply("square", 4), 16)

    def test_cancel_reaches_what_waits_to_be_repeated(self):
        session = self.session()
        before = self.daemon.counter("requests_refused_total")
        for how in ({}, {"waiting": True}):
            request = session.start("fail", "again", retries=9, retry_delay_ms=60_000, announce=True)
            task = session.receive("progress").head["task"]
            eventually(lambda: session.ask("ps", {"task": task})["tasks"][0]["state"] == "waiting", "it waits")
            self.assertEqual(session.ask("cancel", {"request": request, **how}), {"cancelled": 1})
            self.assert_fails("cancelled", session.result, request)
        self.assertEqual(self.daemon.counter("requests_refused_total"), before)


class Order(Story):
    pools = [{"name": "one", "workers": 1}, {"name": "small", "workers": 1, "max_queued": 3},
             {"name": "low", "workers": 1, "priority": -5}]

    def test_the_higher_priority_runs_first(self):
        session = self.session()
        session.ask("pool_pause", {"pool": "one"})
        priorities = [0, 5, -100, 100, 5, 0]
        requests = {session.start("echo", index, pool="one", priority=priority): (-priority, index)
                    for index, priority in enumerate(priorities)}
        session.ask("pool_resume", {"pool": "one"})
        order = [requests[session.receive("result").request] for _ in priorities]
        self.assertEqual(order, sorted(order))

    def test_a_full_queue_says_so_and_keeps_what_it_has(self):
        session = self.session()
        session.ask("pool_pause", {"pool": "small"})
        kept = [session.start("square", x, pool="small") for x in range(3)]
        error = self.assert_fails("queue_full", session.apply, "square", 9, pool="small")
        self.assertIn("max_queued", error.detail)
        self.assert_fails("queue_full", session.map, "square", [1, 2], pool="small")
        session.ask("pool_resume", {"pool": "small"})
        self.assertEqual([session.result(request) for request in kept], [0, 1, 4])
        self.assertEqual(session.apply("square", 9, pool="small"), 81)

    def test_a_session_s_queued_bytes_are_bounded(self):
        session = self.session()
        session.ask("pool_pause", {"pool": "one"})
        limit = session.welcome["limits"]["session_queued_bytes"]
        item = b" " * 65535 + b"1"
        requests = [session.start("echo", body=item, pool="one") for _ in range(limit // (len(item) + 100))]
        beyond = [session.start("echo", body=item, pool="one") for _ in range(2)]
        self.assertIn("session_queued_bytes", self.assert_fails("queue_full", session.result, beyond[1]).detail)
        self.assertEqual(self.session().apply("square", 2, pool="low"), 4)
        session.ask("pool_resume", {"pool": "one"})
        self.assertEqual({session.result(request) for request in requests}, {1})

    def test_the_pool_s_priority_is_the_default(self):
        session = self.session()
        request = session.start("echo", 1, pool="low", announce=True)
        task = session.receive("progress").head["task"]
        session.result(request)
        row = self.daemon.ask("ps", {"pool": "low", "all": True})["tasks"]
        self.assertTrue(not row or row[0]["priority"] == -5)
        self.assertTrue(task)


class Joining(Story):
    def test_a_second_submission_with_the_key_joins_the_first(self):
        first, second = self.session(), self.session()
        before = self.daemon.counter("tasks_submitted_total")
        first.ask("pool_pause")
        requests = [(session, session.start("square", 12, idempotency_key="twelve")) for session in (first, second, first)]
        first.ask("ping"), second.ask("ping")
        first.ask("pool_resume")
        self.assertEqual([session.result(request) for session, request in requests], [144] * 3)
        self.assertEqual(first.apply("square", 99, idempotency_key="twelve"), 144)
        self.assertEqual(self.daemon.counter("tasks_submitted_total"), before + 1)

    def test_it_outlives_the_session_that_began_it(self):
        first = self.session()
        first.ask("pool_pause")
        first.start("square", 13, idempotency_key="thirteen")
        first.ask("ping")
        first.close()
        second = self.session()
        request = second.start("square", 13, idempotency_key="thirteen")
        second.ask("pool_resume")
        self.assertEqual(second.result(request), 169)

    def test_a_joined_error_is_the_same(self):
        session = self.session()
        details = {self.assert_fails("task_failed", session.apply, "fail", text, idempotency_key="e").detail for text in "ab"}
        self.assertEqual(details, {"a"})


if __name__ == "__main__":
    unittest.main()
