#!/usr/bin/python3
"""Reloads under load: a hundred of them, each with another configuration and another version of the module, while four clients call and
map. Every result comes, is right, and is of a version that was there when it was asked for, or later."""

import os
import signal
import tempfile
import threading
import unittest

from story import Daemon, eventually  # which also finds what is imported next
from library import compile_library

RELOADS = 100
VERSIONS = 5  # made once each; a reload brings the next, and after the last the first again
# square(x) is [VERSION, x * x]; which_VERSION is there in that version alone.
SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/module_abi.h"
#define TEXT(x) TEXT_(x)
#define TEXT_(x) #x

static int square(const struct taskpool_call* call, void* user) {
  char text[32] = "", result[64];
  (void)user;
  memcpy(text, call->input, call->input_bytes < 31 ? call->input_bytes : 31);
  const long long x = atoll(text);
  const int length = snprintf(result, sizeof result, "[%d, %lld]", VERSION, x * x);
  return call->host->result(call, TASKPOOL_JSON, result, length) != 0;
}
static const struct taskpool_function functions[] = {
  {.name = "versioned_square", .signature = "(x)", .doc = "", .call = square},
  {.name = "which_" TEXT(VERSION), .signature = "(x)", .doc = "", .call = square}};
static const struct taskpool_module module = {
  .abi_version = TASKPOOL_ABI_VERSION, .function_count = 2, .name = "versioned", .functions = functions};
const struct taskpool_module* taskpool_get_module(void) { return &module; }
"""


class Client(threading.Thread):
    """Calls and maps until it is told to stop; whatever is wrong ends up in `wrong`."""

    def __init__(self, daemon, reloads, number):
        super().__init__()
        self.daemon, self.reloads, self.number = daemon, reloads, number
        self.stopping = threading.Event()
        self.wrong = None
        self.calls = self.items = 0
        self.seen = set()

    def check(self, value, x, before):
        version, square = value
        if square != x * x:
            raise AssertionError(f"{x} gave {value}")
        # Those that the module had between asking and now: what was answered before is in force.
        possible = {count % VERSIONS for count in range(before, self.reloads.begun + 1)}
        if version not in possible:
            raise AssertionError(f"version {version}, after {before} to {self.reloads.begun} reloads")
        self.seen.add(version)

    def run(self):
        try:
            with self.daemon.session() as session:
                x = self.number * 1_000_000
                while not self.stopping.is_set():
                    before = self.reloads.done
                    self.check(session.apply("versioned_square", x), x, before)
                    self.calls += 1
                    before = self.reloads.done
                    items = range(x, x + 100)
                    found, done = session.map("versioned_square", items)
                    if done != {"total": 100, "succeeded": 100, "failed": 0}:
                        raise AssertionError(f"{done}: {found}")
                    for index, item in enumerate(items):
                        self.check(found[index], item, before)
                    self.items += len(found)
                    x += 100
        except BaseException as error:  # pylint: disable=broad-except
            self.wrong = repr(error)


class Reloads:
    """How many reloads have begun and how many have been answered."""

    def __init__(self):
        self.begun = self.done = 0


class UnderLoad(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="taskpool-reload-")
        self.addCleanup(directory.cleanup)
        self.current = os.path.join(directory.name, "versioned.so")
        self.versions = []
        for version in range(VERSIONS):
            self.versions.append(os.path.join(directory.name, f"versioned-{version}.so"))
            compile_library(SOURCE, self.versions[-1], f"-DVERSION={version}")
        self.install(0)

    def install(self, version):
        """Puts a version where the configuration says, at once, as a package's upgrade does."""
        beside = self.current + ".new"
        os.symlink(self.versions[version], beside)
        os.replace(beside, self.current)

    def pools(self, count):
        return [{"name": "default", "workers": 2 + count % 2, "modules": [self.current], "max_queued": 10_000 + count,
                 "nice": count % 3, "max_tasks_per_worker": 0 if count % 4 else 50}]

    def test_100_reloads_with_new_config_and_modules_fail_no_request(self):
        with Daemon("prefetch = 10", pools=self.pools(0)) as daemon, daemon.session() as session:
            reloads = Reloads()
            clients = [Client(daemon, reloads, number) for number in range(4)]
            for client in clients:
                client.start()
            try:
                for count in range(1, RELOADS + 1):
                    progress = [client.calls for client in clients]
                    daemon.write_config(f"prefetch = {10 + count}", self.pools(count))
                    reloads.begun = count
                    self.install(count % VERSIONS)
                    if count % 2:
                        changed = session.ask("reload")["changed"]
                        self.assertIn("prefetch", changed)
                    else:
                        before = daemon.log().count("event=reloaded")
                        daemon.process.send_signal(signal.SIGHUP)
                        eventually(lambda: daemon.log().count("event=reloaded") > before, "it has reloaded")
                    reloads.done = count
                    self.assertEqual(session.apply(f"which_{count % VERSIONS}", 3), [count % VERSIONS, 9], "the new one serves")
                    eventually(lambda: all(client.wrong or client.calls > calls for client, calls in zip(clients, progress)),
                               "each client goes on")
            finally:
                for client in clients:
                    client.stopping.set()
                for client in clients:
                    client.join()
            self.assertEqual([client.wrong for client in clients], [None] * 4)
            self.assertEqual([client.seen for client in clients], [set(range(VERSIONS))] * 4)
            self.assertEqual(daemon.counter("reloads_total"), RELOADS)
            self.assertEqual(daemon.counter("tasks_failed_total"), 0)
            self.assertEqual(daemon.counter("workers_died_total"), 0)
            eventually(lambda: len(daemon.workers()) == self.pools(RELOADS)[0]["workers"], "the old generations are gone")
            log = daemon.log()
            for bad in ("level=error", "event=bug", "event=worker_exited"):
                self.assertNotIn(bad, log)
            print(f"{RELOADS} reloads, {sum(client.calls for client in clients)} calls, {sum(client.items for client in clients)} items of "
                  "maps, none failed")


if __name__ == "__main__":
    unittest.main()
