#!/usr/bin/python3
"""/metrics and /healthz: what Prometheus reads, and what a peer that means no good can do there (nothing)."""

import json
import math
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
import unittest

from story import Daemon, Failed, Story, binaries, eventually

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
LINE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (NaN|[+-]Inf|[0-9]+(?:\.[0-9]+)?)")


class Page:
    """A page in Prometheus' text format 0.0.4, read by the letter: what the format allows and nothing more."""

    def __init__(self, text):
        assert text.endswith("\n"), "the last line ends"
        self.kinds, self.helps, self.samples, closed, current = {}, {}, {}, set(), None
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                name, help_text = line[7:].split(" ", 1)
                assert re.fullmatch(NAME, name) and help_text and name not in self.helps, line
                self.helps[name] = help_text
                closed.add(current)
                current = name
            elif line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                assert name == current and name not in self.kinds and kind in ("counter", "gauge", "histogram"), line
                self.kinds[name] = kind
            else:
                match = LINE.fullmatch(line)
                assert match, f"not a line of the format: {line!r}"
                name, labels = match[1], match[2] or ""
                family = name
                if self.kinds.get(family) is None:
                    family = re.sub("_(bucket|sum|count)$", "", name)
                    assert self.kinds.get(family) == "histogram", line
                assert family == current and family not in closed, f"the lines of one metric are together: {line!r}"
                key = (name, tuple(sorted((found[0], self.plain(found[1])) for found in re.findall(LABEL, labels))))
                assert len({label for label, _ in key[1]}) == len(key[1]), line
                assert key not in self.samples, f"twice: {line!r}"
                self.samples[key] = float(match[len(match.groups())])
        assert self.kinds.keys() == self.helps.keys()
        for name, kind in self.kinds.items():
            assert (kind == "counter") == name.endswith("_total"), name
            if kind == "histogram":
                self.check_histogram(name)

    @staticmethod
    def plain(text):
        return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text)

    def check_histogram(self, name):
        series = {}
        for (sample, labels), value in self.samples.items():
            if sample == name + "_bucket":
                rest = tuple(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        for labels, buckets in series.items():
            assert buckets == sorted(buckets), (name, labels, buckets)  # bounds in order, counts that never fall
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            assert math.isinf(buckets[-1][0])
            assert self.samples[name + "_count", labels] == buckets[-1][1]
            assert self.samples[name + "_sum", labels] >= 0

    def __call__(self, name, **labels):
        return self.samples["taskpool_" + name, tuple(sorted(labels.items()))]


def connect(address):
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(address)
        return sock
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), timeout=20)


def exchange(address, data):
    """Sends bytes, and returns (status, fields, body) of the answer, of which there is exactly one."""
    with connect(address) as sock:
        sock.sendall(data)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    return int(lines[0].split(" ")[1]), fields, body


def get(address, target, method="GET"):
    return exchange(address, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


class Watched(Story):
    config = 'metrics_listen = "127.0.0.1:0"\ncancel_grace = "200ms"'
    pools = [{"name": "default", "workers": 2}, {"name": 'odd "name"\\\n', "workers": 1}]

    def setUp(self):
        self.address = re.search("event=metrics address=(.*)", self.daemon.log())[1]

    def page(self):
        status, fields, body = get(self.address, "/metrics")
        self.assertEqual(status, 200)
        self.assertEqual(fields["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertEqual(int(fields["content-length"]), len(body))
        return Page(body.decode())


class Pages(Watched):
    def test_outcomes_by_class_and_restarts(self):
        session = self.session()
        before = self.page()
        session.map("square", range(100))
        with self.assertRaises(Failed):
            session.apply("fail", "no")
        with self.assertRaises(Failed):
            session.apply("crash", 9)
        with self.assertRaises(Failed):
            session.apply("sleep", 60, timeout_ms=50)
        running = session.start("sleep", 60)
        eventually(lambda: [row for row in self.daemon.workers() if "run_ms" in row], "its worker has claimed it")
        session.ask("cancel", {"request": running, "force": True})
        with self.assertRaises(Failed):
            session.result(running)
        page = self.page()
        for outcome, tasks in (("done", 100), ("task_failed", 1), ("worker_lost", 1), ("timed_out", 1), ("cancelled", 1),
                               ("out_of_memory", 0)):
            with self.subTest(outcome):
                name = {"pool": "default", "outcome": outcome}
                self.assertEqual(page("pool_tasks_ended_total", **name) - before("pool_tasks_ended_total", **name), tasks)
        self.assertEqual(page("tasks_succeeded_total") - before("tasks_succeeded_total"), 100)
        died = {"pool": "default", "reason": "died"}
        self.assertEqual(page("pool_worker_restarts_total", **died) - before("pool_worker_restarts_total", **died), 3)

    def test_histograms_of_waiting_and_running(self):
        session = self.session()
        before = self.page()
        requests = [session.start("sleep", 0.2) for _ in range(4)]  # two run, two wait for them
        for request in requests:
            session.result(request)
        page = self.page()

        def grown(name, **labels):
            return page(name, pool="default", **labels) - before(name, pool="default", **labels)
        self.assertEqual(grown("task_run_seconds_count"), 4)
        self.assertEqual(grown("task_run_seconds_bucket", le="0.1"), 0)
        self.assertEqual(grown("task_run_seconds_bucket", le="5"), 4)
        self.assertGreaterEqual(grown("task_run_seconds_sum"), 0.8)
        self.assertEqual(grown("task_wait_seconds_count"), 4)
        self.assertEqual(grown("task_wait_seconds_bucket", le="0.1"), 2)
        self.assertGreaterEqual(grown("task_wait_seconds_sum"), 0.4 - 0.05)

    def test_a_long_task_is_no_part_of_the_mean_of_short_ones(self):
        session = self.session()
        before = self.page()
        request = session.start_map("sleep", [0] * 20 + [0.5] + [0] * 20, chunk=41)
        session.outcomes(request)
        page = self.page()
        short = {"pool": "default", "le": "0.1"}
        self.assertGreaterEqual(page("task_run_seconds_bucket", **short) - before("task_run_seconds_bucket", **short), 39)
        self.assertEqual(page("task_run_seconds_count", pool="default") - before("task_run_seconds_count", pool="default"), 41)

    def test_killed_tasks_count_with_the_time_that_they_ran(self):
        session = self.session()
        before = self.page()
        with self.assertRaises(Failed):
            session.apply("sleep", 60, timeout_ms=300)
        page = self.page()
        self.assertEqual(page("task_run_seconds_count", pool="default") - before("task_run_seconds_count", pool="default"), 1)
        self.assertGreaterEqual(page("task_run_seconds_sum", pool="default") - before("task_run_seconds_sum", pool="default"), 0.25)

    def test_queue_depth_and_the_age_of_the_oldest(self):
        session = self.session()
        session.ask("pool_pause")
        try:
            self.assertEqual(self.page()("pool_oldest_wait_seconds", pool="default"), 0)
            requests = [session.start("square", 2)]
            eventually(lambda: self.page()("pool_oldest_wait_seconds", pool="default") > 0.2, "it grows old")
            requests += [session.start("square", x) for x in range(4)]
            session.ask("ping")
            page = self.page()
            self.assertEqual(page("pool_waiting_tasks", pool="default"), 5)
            self.assertGreater(page("pool_oldest_wait_seconds", pool="default"), 0.2)
            row = session.ask("pools")["pools"][0]
            self.assertGreater(row["oldest_ms"], 200)
        finally:
            session.ask("pool_resume")
        for request in requests:
            session.result(request)
        self.assertEqual(self.page()("pool_oldest_wait_seconds", pool="default"), 0)

    def test_workers_by_state_and_sessions_by_uid(self):
        session = self.session()
        running = session.start("sleep", 60)
        eventually(lambda: self.page()("pool_workers", pool="default", state="busy") == 1, "it runs")
        page = self.page()
        self.assertEqual(page("pool_workers", pool="default", state="idle"), 1)
        self.assertEqual(page("pool_target_workers", pool="default"), 2)
        self.assertEqual(page("pool_up", pool="default"), 1)
        self.assertEqual(page("pool_target_workers", pool='odd "name"\\\n'), 1)  # a name that needs its escapes
        sessions = page("user_open_sessions", uid=str(os.getuid()))
        with self.daemon.session():
            self.assertEqual(self.page()("user_open_sessions", uid=str(os.getuid())), sessions + 1)
        session.ask("cancel", {"request": running, "force": True})
        self.assertGreaterEqual(page("loop_lag_seconds"), 0)

    def test_pools_of_sessions_are_told_of_together_and_never_count_backwards(self):
        before = self.page()("pool_tasks_ended_total", pool="(sessions)", outcome="done")
        for name in ("one", "two"):
            with self.daemon.session() as session:
                session.ask("pool_open", {"name": name, "workers": 1, "modules": [self.daemon.module("demo")]})
                session.apply("square", 3, pool=name)
        eventually(lambda: self.page()("pool_target_workers", pool="(sessions)") == 0, "both pools are gone")
        page = self.page()
        self.assertEqual(page("pool_tasks_ended_total", pool="(sessions)", outcome="done"), before + 2)
        self.assertNotIn("one", {dict(labels).get("pool") for _, labels in page.samples})

    def test_stats_have_all_of_it_too(self):
        self.session().apply("square", 3)
        page, stats = self.page(), self.session().ask("stats")
        shown = {row["name"] for row in stats["counters"]} | {row["name"] for row in stats["series"]}
        own = {"build_info", "uptime_seconds", "resident_bytes", "draining"}  # stats has these in fields of their own
        self.assertEqual({name.removeprefix("taskpool_") for name in page.kinds} - own, shown)
        for row in stats["series"]:
            self.assertTrue(row["help"])
            self.assertEqual(page.kinds["taskpool_" + row["name"]], row["kind"])
            self.assertEqual(page.helps["taskpool_" + row["name"]], row["help"])
            for value in row["values"]:
                self.assertEqual(len(value["labels"]), len(row["labels"]))
                if row["kind"] == "histogram":
                    self.assertEqual(len(value["counts"]), len(row["bounds"]) + 1)
        ended = next(row for row in stats["series"] if row["name"] == "pool_tasks_ended_total")
        self.assertEqual(ended["labels"], ["pool", "outcome"])
        done = next(value["value"] for value in ended["values"] if value["labels"] == ["default", "done"])
        self.assertEqual(done, page("pool_tasks_ended_total", pool="default", outcome="done"))

    @unittest.skipUnless(shutil.which("promtool"), "SKIPPED: promtool, of the Debian package prometheus, is not installed")
    def test_promtool_finds_nothing_wrong(self):
        self.session().apply("square", 3)
        body = get(self.address, "/metrics")[2]
        checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=60)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))


class Http(Watched):
    def test_only_two_pages_and_two_methods(self):
        for target, method, status in (("/", "GET", 404), ("/metrics/", "GET", 404), ("/metrics?format=x", "GET", 200),
                                       ("/metrics", "POST", 405), ("/healthz", "DELETE", 405), ("/nowhere", "PUT", 405)):
            with self.subTest(target=target, method=method):
                answer = get(self.address, target, method)
                self.assertEqual(answer[0], status)
                self.assertEqual(answer[1]["connection"], "close")
                if status == 405:
                    self.assertEqual(answer[1]["allow"], "GET, HEAD")

    def test_head_has_the_fields_and_no_body(self):
        status, fields, body = get(self.address, "/healthz", "HEAD")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(fields["content-length"]), 0)

    def test_what_is_no_request_is_refused(self):
        for data in (b"garbage\r\n\r\n", b"\0" * 64, b"GET /metrics\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA B\r\n\r\n"):
            with self.subTest(data):
                self.assertEqual(exchange(self.address, data)[0], 400)
        for data in (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4000 + b"\r\n"):
            self.assertEqual(exchange(self.address, data)[0], 431)

    def test_a_body_is_not_waited_for(self):
        head = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        self.assertEqual(exchange(self.address, head)[0], 405)

    def test_a_peer_that_sends_slowly_is_cut_off(self):
        begun = time.monotonic()
        with connect(self.address) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
            try:
                while True:
                    slow.settimeout(0.2)
                    slow.sendall(b"A: b\r\n")
                    try:
                        if not slow.recv(1):
                            break
                    except TimeoutError:
                        continue
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.assertLess(time.monotonic() - begun, 15)

    def test_peers_that_only_sit_there_keep_nobody_out(self):
        sitting = [connect(self.address) for _ in range(40)]
        try:
            self.assertEqual(get(self.address, "/healthz")[0], 200)
            descriptors = os.listdir(f"/proc/{self.daemon.process.pid}/fd")
            self.assertLess(len(descriptors), 80)
        finally:
            for peer in sitting:
                peer.close()

    def test_a_flood_does_not_reach_the_tasks(self):
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                try:
                    with connect(self.address) as peer:
                        peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                except OSError:
                    pass
        threads = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
        before = cpu_seconds(self.daemon.process.pid)
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        session, served = self.session(), 0
        while time.monotonic() - begun < 2:
            session.apply("square", 3)
            served += 1
        stop.set()
        for thread in threads:
            thread.join()
        self.assertGreater(served, 100)
        self.assertLess(cpu_seconds(self.daemon.process.pid) - before, 2)

    def test_closed_connections_leave_nothing(self):
        pid = self.daemon.process.pid
        get(self.address, "/metrics")
        eventually(lambda: connections(pid) == 0, "the first one is gone")
        before = len(os.listdir(f"/proc/{pid}/fd"))
        for data in (b"", b"GET", b"GET /metrics HTTP/1.1\r\n\r\n", b"garbage\r\n\r\n") * 5:
            with connect(self.address) as peer:
                peer.sendall(data)
        eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, "all are closed")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def connections(pid):
    """Established TCP connections of a process."""
    own = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if os.path.islink(f"/proc/{pid}/fd/{fd}")}
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(1 for row in rows if row[3] == "01" and f"socket:[{row[9]}]" in own)


class Health(unittest.TestCase):
    @staticmethod
    def health(daemon):
        status, fields, body = get(re.search("event=metrics address=(.*)", daemon.log())[1], "/healthz")
        assert fields["content-type"] == "application/json"
        return status, json.loads(body)

    def test_well_and_draining(self):
        with Daemon('metrics_listen = "[::1]:0"') as daemon, daemon.session() as session:
            status, health = self.health(daemon)
            self.assertEqual((status, health["status"], health["pools"]), (200, "ok", {"default": "ok"}))
            self.assertEqual(health["pid"], daemon.process.pid)
            session.ask("pool_pause")
            self.assertEqual(self.health(daemon)[1]["pools"], {"default": "paused"})
            session.ask("pool_resume")
            session.ask("drain")
            status, health = self.health(daemon)
            self.assertEqual((status, health["status"]), (503, "draining"))
            self.assertEqual(daemon.stop(), 0)

    def test_a_pool_that_cannot_start_its_workers(self):
        with Daemon('metrics_listen = "127.0.0.1:0"') as daemon:
            daemon.write_config('metrics_listen = "127.0.0.1:0"', [{"name": "default", "workers": 1},
                                                                   {"name": "broken", "workers": 1, "initializer": "fail"}])
            with daemon.session() as session, self.assertRaises(Failed):
                session.ask("reload")
            eventually(lambda: self.health(daemon)[0] == 503, "it is told of")
            self.assertEqual(self.health(daemon)[1]["pools"], {"default": "ok", "broken": "start_failed"})
            daemon.write_config('metrics_listen = "127.0.0.1:0"')
            with daemon.session() as session:
                session.ask("reload")
            eventually(lambda: self.health(daemon)[0] == 200, "it is well again")


class Listening(unittest.TestCase):
    def refusal(self, value):
        done = subprocess.run([os.path.join(binaries(), "taskpoold"), "--metrics-listen", value, "--check-config"],
                              capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 78)
        return done.stderr

    def test_other_hosts_are_never_served(self):
        for value in ("0.0.0.0:9464", "192.168.1.1:9464", "[::]:9464", ":9464", "example.org:9464", "127.0.0.1", "127.0.0.1:99999"):
            with self.subTest(value):
                refusal = self.refusal(value)
                self.assertIn(value, refusal)
                self.assertIn("which no other host can reach", refusal)

    def test_off_by_default(self):
        with Daemon() as daemon:
            self.assertNotIn("event=metrics", daemon.log())

    def test_a_unix_socket(self):
        daemon = Daemon()
        path = os.path.join(daemon.directory, "metrics")
        daemon.write_config(f'metrics_listen = "{path}"\nmetrics_socket_mode = "0660"')
        with daemon:
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o660)
            self.assertIn(b"taskpool_sessions_open 0\n", get(path, "/metrics")[2])
            self.assertEqual(get(path, "/healthz")[0], 200)
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(os.path.exists(path))

    def test_a_port_that_is_taken_is_an_error_at_the_start(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            daemon = Daemon(f'metrics_listen = "127.0.0.1:{other.getsockname()[1]}"')
            try:
                daemon.start(wait=False)
                self.assertEqual(daemon.wait(), 78)
                self.assertIn("metrics_listen: 127.0.0.1:", daemon.log())
            finally:
                daemon.__exit__(None)

    def test_a_reload_keeps_the_place(self):
        with Daemon('metrics_listen = "127.0.0.1:0"') as daemon, daemon.session() as session:
            daemon.write_config('metrics_listen = "127.0.0.1:1"')
            self.assertEqual(session.ask("reload")["needs_restart"], ["metrics_listen"])
            self.assertEqual(session.ask("reload")["needs_restart"], ["metrics_listen"])
            self.assertEqual(Health.health(daemon)[0], 200)


if __name__ == "__main__":
    unittest.main()
