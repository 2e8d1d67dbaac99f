#!/usr/bin/python3
"""Buffers: raw memory that sessions share, and that is gone with the last of them."""

import fcntl
import mmap
import os
import unittest

from story import eventually
from store_wait_locks_test import WaitStory
from sync import Party

F_GET_SEALS = 1034
F_SEAL_SHRINK, F_SEAL_GROW = 2, 4


class Buffers(WaitStory):
    config = 'store_max_bytes = "64MiB"'

    def buffer(self, party, name="", size=4096, target=1, **options):
        """The reply and the memory."""
        reply, fds = party.session.ask_frame("buffer_open", {"name": name, "bytes": size, **options}, target=target)
        self.assertEqual(len(fds), 1)
        seals = fcntl.fcntl(fds[0], F_GET_SEALS)
        self.assertEqual(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW)
        with self.assertRaises(OSError):
            os.ftruncate(fds[0], 1)
        memory = mmap.mmap(fds[0], reply["bytes"])
        os.close(fds[0])
        return reply, memory

    def rows(self, party, **options):
        return party.session.ask("objects", {"type": "buffer", **options})["objects"]

    def test_sessions_share_one_by_its_name(self):
        mine, other = self.party(), self.party()
        made, memory = self.buffer(mine, "shared")
        self.assertEqual(made, {"bytes": 4096, "created": True})
        memory[:5] = b"hello"
        found, again = self.buffer(other, "shared", size=0)
        self.assertEqual(found, {"bytes": 4096, "created": False})
        self.assertEqual(again[:5], b"hello")
        self.assert_fails("object_exists", self.buffer, other, "shared", create="exclusive", target=2)
        self.assert_fails("unknown_object", self.buffer, other, "nothing", create="never", target=2)

    def test_the_last_session_ends_it(self):
        mine, other, third = self.party(), Party(self.daemon), self.party()
        self.buffer(mine, "ends")
        self.buffer(other, "ends")
        mine.session.send("object_close", target=1)
        (row,) = eventually(lambda: [row for row in self.rows(third) if row["sessions"] == [other.session.welcome["session"]]],
                            "one has it open")
        self.assertEqual((row["name"], row["type"], row["bytes"], row["uid"]), ("ends", "buffer", 4096, os.getuid()))
        other.close()
        eventually(lambda: not self.rows(third), "it is gone")
        self.assertTrue(self.buffer(third, "ends")[0]["created"])

    def test_the_death_of_the_last_process_ends_it(self):
        watching = self.party()

        def hold():
            self.buffer(Party(self.daemon), "killed")

        child = self.child(hold)
        child.report()
        self.assertEqual(len(self.rows(watching)), 1)
        child.kill()
        eventually(lambda: not self.rows(watching), "it is gone")
        self.assertFalse([name for name in os.listdir("/dev/shm") if "taskpool-buffer" in name])

    def test_numbers_are_shared_with_objects(self):
        party = self.party()
        self.buffer(party, "number", target=7)
        dictionary = party.store.open("dict", "number", target=7)  # names are not
        self.assertEqual(self.rows(party), [])
        dictionary.set("a", 1)
        self.buffer(party, "number", target=7)
        self.assert_fails("unknown_object", dictionary.get, "a")
        self.buffer(party, "number", target=7)

    def test_sizes_and_quota(self):
        party = self.party()
        self.assert_fails("bad_argument", self.buffer, party, size=7)
        self.assertEqual(self.buffer(party, size=8)[0]["bytes"], 8)
        self.assert_fails("store_full", self.buffer, party, size=65 << 20, target=2)
        _, large = self.buffer(party, size=(64 << 20) - 8, target=2)
        large[-1] = 1
        self.assert_fails("store_full", self.buffer, party, size=8, target=3)
        party.session.send("object_close", target=2)
        self.buffer(party, size=8, target=3)
        self.assert_fails("bad_message", self.buffer, party, size=8, target=0)
        self.assert_fails("bad_message", self.buffer, party, size=8, target=65537)
        self.assert_fails("bad_message", self.buffer, party, size=-1)

    def test_listing_in_pages(self):
        party = self.party()
        for number in range(5):
            self.buffer(party, f"p{number}", target=number + 1)
        party.store.open("dict", "also there", target=9)
        names, after = [], ""
        while True:
            page = party.session.ask("objects", {"limit": 2, **({"after": after} if after else {})})
            names += [row["name"] for row in page["objects"]]
            if not page["more"]:
                break
            after = page["objects"][-1]["object"]
        self.assertEqual(names, ["also there"] + [f"p{number}" for number in range(5)])
        self.assertEqual([row["name"] for row in self.rows(party, name="p3")], ["p3"])


if __name__ == "__main__":
    unittest.main()
