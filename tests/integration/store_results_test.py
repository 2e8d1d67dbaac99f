#!/usr/bin/python3
"""Objects that results name live as long as the results do: under way, kept for `fetch`, with the client; and go then."""

import json
import os
import signal
import unittest

from story import Story, binaries, eventually
from store import BYTES, Int, Store, Value

KNOWS = {"capabilities": ["result_refs"]}


class Results(Story):
    config = 'session_grace = "200ms"'

    @classmethod
    def setUpClass(cls):
        modules = [os.path.join(os.path.dirname(binaries()), "modules", f"{name}.so") for name in ("demo", "testing", "nested")]
        cls.pools = [{"name": "default", "workers": 2, "modules": modules},
                     {"name": "short", "workers": 1, "max_tasks_per_worker": 1, "modules": modules}]
        super().setUpClass()

    def setUp(self):
        super().setUp()
        eventually(lambda: not self.ids(), "nothing is left of the test before")

    def ids(self):
        return {row["object"] for row in self.daemon.ask("objects")["objects"]}

    def number(self, session, id):
        made = Store(session).open(object=id, target=7)
        number = made.get("number")
        made.close()
        return number

    def goes(self, *ids):
        eventually(lambda: not self.ids() & set(ids), f"{len(ids)} are collected")

    def stays(self, *ids):
        """They outlive an object that is kept by nothing but the grace, and is younger."""
        store = Store(self.session())
        witness, container = store.open("dict"), store.open("list")
        container.op("list_append", Value(b"", BYTES, refs=[witness.number]))
        witness.close()
        container.op("list_delete", Int(0))
        self.goes(witness.id)
        self.assertLessEqual(set(ids), self.ids())

    def ask_result(self, session, function, argument=None, **options):
        """The id that a result names, and its frame."""
        reply = session.receive("result", "error", request=session.start(function, argument, **options))
        self.assertEqual(reply.op, "result", reply.head)
        (id,) = reply.head["refs"]
        return id, reply

    def test_a_result_with_the_client_keeps_what_it_names(self):
        for pool in ("default", "short"):  # of the latter the worker is gone before the result is looked at
            session = self.session(**KNOWS)
            id, reply = self.ask_result(session, "make_dict", 5, pool=pool)
            self.assertEqual(reply.body.decode(), f'{{"$ref":"{id}"}}')
            self.stays(id)
            self.assertEqual(self.number(session, id), 5)
            self.stays(id)
            session.send("release_refs", head={"refs": [id]})
            self.goes(id)

    def test_it_is_let_go_as_often_as_it_came(self):
        session = self.session(**KNOWS)
        task = session.apply("make_dict", 1, detached=True)["task"]
        session.ask("wait", {"task": task})
        ids = set()
        for _ in range(2):
            request = session.new_request()
            session.send("fetch", head={"task": task, "keep": True}, request=request)
            ids.update(session.receive("result", request=request).head["refs"])
        (id,) = ids
        request = session.new_request()
        session.send("fetch", head={"task": task}, request=request)  # the last one: the daemon keeps it no more
        session.receive("result", request=request)
        session.send("release_refs", head={"refs": [id, id]})
        self.stays(id)
        session.send("release_refs", head={"refs": [id, "u0-77", "nonsense"]})
        self.goes(id)

    def test_a_kept_result_outlives_its_task_its_session_and_its_worker(self):
        session = self.session(**KNOWS)
        task = session.apply("make_dict", 3, pool="short", detached=True)["task"]
        session.close()
        self.session().ask("wait", {"task": task})
        (id,) = self.ids()
        self.stays(id)
        late = self.session(**KNOWS)
        request = late.new_request()
        late.send("fetch", head={"task": task}, request=request)
        self.assertEqual(late.receive("result", request=request).head["refs"], [id])
        self.stays(id)
        self.assertEqual(self.number(late, id), 3)
        late.close()
        self.goes(id)

    def test_a_client_that_releases_nothing_has_the_grace(self):
        session = self.session()
        id, _ = self.ask_result(session, "make_dict", 8)
        self.assertEqual(self.number(session, id), 8)
        self.goes(id)

    def test_large_results_and_jobs(self):
        session = self.session(**KNOWS)
        reply = session.receive("result", request=session.start("make_dicts", [40, 100_000]))
        many = reply.head["refs"]
        self.assertEqual(len(set(many)), 40)
        (body,) = session.read_down(reply.body)
        self.assertIn(many[0].encode(), body)
        request = session.start_map("make_dict", list(range(30)))
        named = {}
        while (frame := session.receive("results", "done", request=request)).op != "done":
            self.assertEqual(frame.count, 1)
            (named[frame.target],) = frame.head["refs"]
        self.assertEqual(sorted(named), list(range(30)))
        self.stays(*many, *named.values())
        for index, id in named.items():
            self.assertEqual(self.number(session, id), index)
        session.send("release_refs", head={"refs": many + list(named.values())})
        self.goes(*many, *named.values())

    def test_a_job_that_is_kept(self):
        session = self.session()
        request = session.start_map("make_dict", [0, 1, 2], detached=True)
        task = json.loads(session.receive("ok", request=request).body)["task"]
        session.close()
        late = self.session(**KNOWS)
        late.ask("wait", {"task": task})
        ids = self.ids()
        self.assertEqual(len(ids), 3)
        self.stays(*ids)
        request = late.new_request()
        late.send("fetch", head={"task": task}, request=request)
        found = set()
        while (frame := late.receive("results", "done", request=request)).op != "done":
            found.update(frame.head["refs"])
        self.assertEqual(found, ids)
        self.stays(*ids)
        late.send("release_refs", head={"refs": sorted(ids)})
        self.goes(*ids)

    def test_what_is_in_bytes_is_told_by_the_task(self):
        session = self.session(**KNOWS)
        id, reply = self.ask_result(session, "make_opaque", 2)
        self.assertEqual(reply.body.decode(), id)
        self.stays(id)
        session.send("release_refs", head={"refs": [id]})
        self.goes(id)

    def test_what_no_result_names_goes_with_its_task(self):
        session = self.session(**KNOWS)
        reply = session.receive("result", request=session.start("make_nothing", []))
        self.assertNotIn("refs", reply.head)
        self.goes(reply.body.decode().strip('"'))

    def test_too_many_are_refused(self):
        session = self.session(**KNOWS)
        failed = self.assert_fails("not_encodable", session.apply, "make_dicts", [1025, 0])
        self.assertIn("1024", failed.detail)
        eventually(lambda: not self.ids(), "nothing is left of it")

    def test_a_worker_that_dies_keeps_nothing(self):
        session = self.session(**KNOWS)
        request = session.start("make_and_sleep", [])
        (id,) = eventually(self.ids, "the task made its dict")
        self.stays(id)  # its handle went, but it may still be returned
        worker = next(row for row in self.daemon.workers(state="running") if row["function"] == "make_and_sleep")
        os.kill(worker["pid"], signal.SIGKILL)
        self.assert_fails("worker_lost", session.result, request)
        self.goes(id)


if __name__ == "__main__":
    unittest.main()
