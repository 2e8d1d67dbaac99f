"""The shared store from the command line."""

import json
import os
import signal
import subprocess
import unittest

from cli_support import TASKPOOL, DaemonTest, eventually


class Dicts(DaemonTest):
    def dict(self, *words, **expected):
        return self.expect(self.run_cli("dict", *words), **expected)

    def test_entries_are_set_read_and_deleted(self):
        self.dict("stock", "set", "apples", "3", "pears", '{"kind": "green"}', out="", err="")
        self.dict("stock", "get", "apples", out="3\n")
        self.dict("stock", "get", "pears", out='{"kind":"green"}\n')
        self.dict("stock", "has", "apples", out="")
        self.dict("stock", "has", "plums", code=1, out="")
        self.dict("stock", "get", "plums", code=1, out="", err="unknown_key: dict stock has no entry plums")
        self.dict("stock", "len", out="2\n")
        self.dict("stock", "keys", out='"apples"\n"pears"\n')
        self.dict("stock", "keys", "--lines", out="apples\npears\n")
        self.dict("stock", "items", out='"apples"\t3\n"pears"\t{"kind":"green"}\n')
        self.assertEqual(self.json_of("dict", "stock", "items"), [["apples", 3], ["pears", {"kind": "green"}]])
        self.assertEqual(self.json_of("dict", "stock", "values"), [3, {"kind": "green"}])
        self.dict("stock", "del", "apples", "plums", out="deleted 1\n")
        self.dict("stock", "pop", out='"pears"\t{"kind":"green"}\n')
        self.dict("stock", "pop", code=1, err="empty")
        self.expect(self.run_cli("remove", "stock"), out="", err="")
        self.dict("stock", "get", "apples", code=1, err="unknown_object")

    def test_a_word_is_json_if_it_can_be(self):
        self.dict("words", "set", "1", "text", '"1"', "2")
        self.dict("words", "get", "1", out='"text"\n')
        self.dict("words", "get", "1", "--lines", out="2\n")
        self.dict("words", "set", "--lines", "k", "3")
        self.dict("words", "get", "k", out='"3"\n')
        self.dict("words", "get", "k", "--lines", out="3\n")
        self.dict("words", "set", "k", "{broken", code=1, err="--lines")
        self.dict("words", "set", "[1, 2]", "true")
        self.dict("words", "get", "[1,2]", out="true\n")
        self.dict("words", "set", '{"a": 1}', "0", code=1, err="bad_key")

    def test_numbers_are_counted_and_exchanged(self):
        self.dict("counts", "incr", "a", out="1\n")
        self.dict("counts", "incr", "a", "-5", out="-4\n")
        self.dict("counts", "set", "t", "text")
        self.dict("counts", "incr", "t", code=1, err="wrong_type")
        self.dict("counts", "cas", "a", "-4", "7", out="")
        self.dict("counts", "cas", "a", "-4", "8", code=1, out="")
        self.dict("counts", "cas", "--absent", "b", "1", out="")
        self.dict("counts", "cas", "--absent", "b", "2", code=1, out="")
        self.dict("counts", "default", "b", "9", out="1\n")
        self.dict("counts", "default", "c", "9", out="9\n")
        self.dict("counts", "clear", out="")
        self.dict("counts", "len", out="0\n")

    def test_entries_expire(self):
        self.dict("cache", "set", "token", "abc", "--ttl", "100ms", out="")
        eventually(lambda: self.run_cli("dict", "cache", "get", "token").code == 1)
        self.dict("cache", "set", "kept", "1", "--ttl", "100s")
        self.dict("cache", "expire", "kept", "0")
        self.dict("cache", "expire", "gone", "1s", code=1, err="unknown_key")

    def test_several_entries_are_set_as_one(self):
        self.dict("batch", "set", "a", "1", '{"no": "key"}', "2", code=1, err="bad_key")
        self.dict("batch", "len", out="0\n")

    def test_changes_are_printed_as_they_come(self):
        self.dict("watched", "set", "a", "0")
        with self.start_cli("dict", "watched", "watch", stdout=subprocess.PIPE, text=True) as everything, \
                self.start_cli("watch", "watched", "b", "--json", stdout=subprocess.PIPE, text=True) as one:
            eventually(lambda: len(self.json_of("objects", "watched")["objects"][0]["sessions"]) == 2)
            # Both have it open; a watch begins right after that. What comes before is not told.
            def told():
                self.dict("watched", "set", "b", "1")
                return len(self.lines_so_far(everything)) > 0 and len(self.lines_so_far(one)) > 0
            eventually(told)
            self.dict("watched", "del", "b")
            self.expect(self.run_cli("remove", "watched"))
            lines = self.lines_so_far(everything) + everything.stdout.read().splitlines()
            changes = [json.loads(line) for line in self.lines_so_far(one) + one.stdout.read().splitlines()]
        self.assertEqual(lines[0], 'set "b"')
        self.assertIn('deleted "b"', lines)
        self.assertEqual(lines[-1], "removed")
        self.assertEqual(changes[0]["key"], "b")
        self.assertEqual(changes[-1]["kind"], "removed")
        self.assertEqual(everything.returncode, 0)

    def lines_so_far(self, process):
        """Whole lines that have come, without waiting for more."""
        seen = getattr(process, "seen", "")
        os.set_blocking(process.stdout.fileno(), False)
        try:
            seen += os.read(process.stdout.fileno(), 65536).decode()
        except BlockingIOError:
            pass
        os.set_blocking(process.stdout.fileno(), True)
        process.seen = seen
        return seen.splitlines()


class Sequences(DaemonTest):
    def test_a_list(self):
        self.expect(self.run_cli("list", "log", "append", "started", '{"at": 12}', "7"), out="", err="")
        self.expect(self.run_cli("list", "log", "get", "-1"), out="7\n")
        self.expect(self.run_cli("list", "log", "insert", "0", "first"))
        self.expect(self.run_cli("list", "log", "set", "1", "second"))
        self.expect(self.run_cli("list", "log", "reverse"))
        self.expect(self.run_cli("list", "log", "items", "--lines"), out='7\n{"at":12}\nsecond\nfirst\n')
        self.assertEqual(self.json_of("list", "log", "items"), [7, {"at": 12}, "second", "first"])
        self.expect(self.run_cli("list", "log", "pop"), out='"first"\n')
        self.expect(self.run_cli("list", "log", "pop", "0"), out="7\n")
        self.expect(self.run_cli("list", "log", "del", "0"))
        self.expect(self.run_cli("list", "log", "len"), out="1\n")
        self.expect(self.run_cli("list", "log", "get", "5"), code=1, err="out_of_range")
        self.expect(self.run_cli("list", "log", "clear"))
        self.expect(self.run_cli("list", "log", "pop"), code=1, err="out_of_range")
        self.expect(self.run_cli("dict", "log", "get", "a"), code=1, err="wrong_type")

    def test_a_value(self):
        self.expect(self.run_cli("value", "hits", "incr"), out="1\n")
        self.expect(self.run_cli("value", "hits", "incr", "2.5"), out="3.5\n")
        self.expect(self.run_cli("value", "hits", "set", "many"), out="")
        self.expect(self.run_cli("value", "hits", "get", "--lines"), out="many\n")
        self.expect(self.run_cli("value", "hits", "cas", "many", "few"))
        self.expect(self.run_cli("value", "hits", "cas", "many", "few"), code=1, out="")
        self.expect(self.run_cli("value", "nothing", "get"), code=1, err="unknown_object")

    def test_a_queue(self):
        self.expect(self.run_cli("queue", "jobs", "put", "--maxsize", "3", "1", "two"), out="", err="")
        self.expect(self.run_cli("queue", "jobs", "put", stdin="3\n"), out="")
        self.expect(self.run_cli("queue", "jobs", "put", "4", "--nonblock"), code=1, out="")
        self.expect(self.run_cli("queue", "jobs", "get", "--count", "2"), out='1\n"two"\n')
        self.expect(self.run_cli("queue", "jobs", "len"), out="1\n")
        self.expect(self.run_cli("queue", "jobs", "get", "--lines"), out="3\n")
        self.expect(self.run_cli("queue", "jobs", "get", "--nonblock"), code=1, out="")
        self.expect(self.run_cli("queue", "jobs", "get", "--timeout", "50ms"), code=1, out="")
        with self.start_cli("queue", "jobs", "get", stdout=subprocess.PIPE, text=True) as waiting:
            eventually(lambda: self.json_of("locks")["locks"])
            self.expect(self.run_cli("queue", "jobs", "put", "now"))
            self.assertEqual(waiting.stdout.read(), '"now"\n')


class Waiting(DaemonTest):
    def locks(self):
        return {row["name"]: row for row in self.json_of("locks")["locks"]}

    def test_a_lock_is_held_while_a_command_runs(self):
        self.expect(self.run_cli("lock", "a", "--", "sh", "-c", "echo $0 $1; exit 7", "x", "y"), code=7, out="x y\n", err="")
        with self.start_cli("lock", "a", "--", "cat", stdin=subprocess.PIPE) as holder:
            eventually(lambda: self.locks().get("a", {}).get("holders"))
            self.expect(self.run_cli("lock", "a", "--nonblock", "--", "true"), code=1, err="held by somebody else")
            self.expect(self.run_cli("lock", "a", "-n", "-E", "75", "--", "true"), code=75)
            self.expect(self.run_cli("lock", "a", "--timeout", "50ms", "--", "true"), code=1)
            table = self.expect(self.run_cli("locks", "a")).out
            self.assertRegex(table, r"(?m)^a +lock +session \d+ thread \d+ +holds ")
            with self.start_cli("lock", "a", "--", "echo", "mine", stdout=subprocess.PIPE, text=True) as next_one:
                eventually(lambda: self.locks()["a"]["waiters"])
                holder.stdin.close()
                self.assertEqual(next_one.stdout.read(), "mine\n")
        self.assertNotIn("a", self.locks())

    def test_who_dies_gives_its_lock_back_and_the_next_one_is_told(self):
        with self.start_cli("lock", "b", "--", "sleep", "60") as holder:
            eventually(lambda: self.locks().get("b", {}).get("holders"))
            with self.start_cli("lock", "b", "--", "echo", "mine", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True) as next_one:
                eventually(lambda: self.locks()["b"]["waiters"])
                holder.kill()
                out, err = next_one.communicate(timeout=60)
        self.assertEqual(out, "mine\n")
        self.assertIn("died with it", err)

    def test_the_exit_code_is_what_flock_says(self):
        self.expect(self.run_cli("lock", "c", "--", "sh", "-c", "kill -9 $$"), code=137)
        self.expect(self.run_cli("lock", "c", "--", "/nonexistent/program"), code=69, err="No such file")
        self.expect(self.run_cli("lock", "c", "--", "true"), out="", err="")

    def test_a_signal_from_the_terminal_is_the_commands_to_act_on(self):
        script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"
        with self.start_cli("lock", "d", "--", "sh", "-c", script, stdout=subprocess.PIPE, text=True,
                            start_new_session=True) as holder:
            self.assertEqual(holder.stdout.readline(), "ready\n")
            os.killpg(holder.pid, signal.SIGINT)
            self.assertEqual(holder.stdout.readline(), "caught\n")
        self.assertEqual(holder.returncode, 3)

    def test_a_semaphore_lets_so_many_run(self):
        holders = [self.start_cli("semaphore", "s", "--value", "2", "--", "cat", stdin=subprocess.PIPE) for _ in range(2)]
        try:
            eventually(lambda: len(self.locks().get("s", {}).get("holders", [])) == 2)
            self.expect(self.run_cli("semaphore", "s", "-n", "--", "true"), code=1)
            holders[0].stdin.close()
            self.assertEqual(holders[0].wait(60), 0)
            self.expect(self.run_cli("semaphore", "s", "-n", "--", "true"), code=0)
        finally:
            for holder in holders:
                holder.kill()
                holder.communicate()

    def test_an_event_is_waited_for(self):
        self.expect(self.run_cli("event", "e", "wait", "--timeout", "20ms"), code=1)
        self.expect(self.run_cli("event", "e", "is-set"), code=1)
        with self.start_cli("event", "e", "wait") as waiting:
            eventually(lambda: self.locks().get("e", {}).get("waiters"))
            self.expect(self.run_cli("event", "e", "set"))
            self.assertEqual(waiting.wait(60), 0)
        self.expect(self.run_cli("event", "e", "is-set"))
        self.expect(self.run_cli("event", "e", "clear"))
        self.expect(self.run_cli("event", "e", "is-set"), code=1)


class Objects(DaemonTest):
    def test_objects_are_listed(self):
        self.expect(self.run_cli("dict", "one", "set", "a", "1"))
        self.expect(self.run_cli("list", "two", "append", "1", "2"))
        rows = {row["name"]: row for row in self.json_of("objects")["objects"]}
        self.assertEqual(rows["one"]["type"], "dict")
        self.assertEqual(rows["two"]["entries"], 2)
        self.assertGreater(rows["one"]["bytes"], 0)
        self.assertEqual(rows["one"]["uid"], os.getuid())
        table = self.expect(self.run_cli("objects")).out
        self.assertEqual(table.split("\n")[0].split(), ["NAME", "TYPE", "ENTRIES", "BYTES", "OWNER", "SESSIONS", "OBJECT"])
        self.assertRegex(table, r"(?m)^two +list +2 ")
        self.assertEqual([row["name"] for row in self.json_of("objects", "--type", "list")["objects"]], ["two"])
        self.assertEqual(len(self.json_of("objects", "--limit", "1")["objects"]), 1)
        words = self.expect(self.run_cli("__complete", "--", "dict", "on")).out
        self.assertEqual(words.split("\t")[0], "one")
        self.expect(self.run_cli("remove", "one", "nothing"), code=1, err="there is no object nothing")
        self.assertNotIn("one", [row["name"] for row in self.json_of("objects")["objects"]])

    def test_a_group_that_is_not_ours_has_no_objects(self):
        self.expect(self.run_cli("dict", "x", "get", "a", "--group", "no-such-group"), code=1, err="unknown_object")


class Mistakes(DaemonTest):
    def refused(self, *words, part):
        self.expect(self.run_cli(*words), code=2, out="", err=part)

    def test_words_that_make_no_sense_are_usage_errors(self):
        self.refused("dict", part="which object")
        self.refused("dict", "d", part="do what with 'd'")
        self.refused("dict", "d", "frobnicate", part="no action 'frobnicate'")
        self.refused("dict", "d", "get", part="want: get KEY")
        self.refused("dict", "d", "set", "a", "1", "b", part="KEY VALUE")
        self.refused("dict", "d", "cas", "a", "1", part="EXPECTED")
        self.refused("dict", "d", "set", "a", "1", "b", "2", "--ttl", "1s", part="--ttl")
        self.refused("lock", "--", "true", part="which lock")
        self.refused("lock", "l", part="no command")
        self.refused("lock", "l", "m", "--", "true", part="NAME")
        self.refused("lock", "l", "-E", "300", "--", "true", part="--conflict-exit-code")

    def test_nobody_to_ask_is_69(self):
        for words in (["dict", "d", "get", "a"], ["lock", "l", "--", "true"], ["objects"], ["locks"], ["watch", "x"]):
            done = subprocess.run([TASKPOOL, "--socket", "/nowhere/at/all", *words], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 69, done)


if __name__ == "__main__":
    unittest.main(verbosity=2)
