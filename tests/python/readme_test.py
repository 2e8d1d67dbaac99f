#!/usr/bin/env python3
"""The tables in client/python/README.md name what multiprocessing has, and say the truth about it."""

import importlib
import multiprocessing
import os
import pkgutil
import re
import sys
import unittest

from support import PACKAGE

sys.path.insert(0, PACKAGE)
import taskpool  # noqa: E402

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "client", "python", "README.md")
#: multiprocessing's own machinery, undocumented: nothing for programs.
INTERNAL = {"forkserver", "heap", "popen_fork", "popen_forkserver", "popen_spawn_posix", "popen_spawn_win32", "reduction",
            "resource_sharer", "resource_tracker", "spawn", "util"}
VERDICTS = {"works", "differs", "not offered"}


def table(heading):
    with open(README) as file:
        rows = file.read().split(f"| {heading} | here | |\n|---|---|---|\n")[1].split("\n\n")[0]
    found = {}
    for row in rows.strip().splitlines():
        name, verdict, note = re.fullmatch(r"\| `(\w+)` \| ([\w ]+) \| (.*?) ?\|", row).groups()
        found[name] = (verdict, note)
    return found


class Readme(unittest.TestCase):
    def check(self, rows, has):
        for name, (verdict, note) in rows.items():
            with self.subTest(name):
                self.assertIn(verdict, VERDICTS)
                self.assertEqual(has(name), verdict != "not offered")
                self.assertTrue(note or verdict == "works", "how, or why not?")

    def test_names(self):
        rows = table("name")
        self.assertEqual(sorted(rows), sorted(multiprocessing.__all__))
        self.check(rows, lambda name: hasattr(taskpool, name) and name in taskpool.__all__)

    def test_submodules(self):
        rows = table("submodule")
        there = {module.name for module in pkgutil.iter_modules(multiprocessing.__path__)} - INTERNAL
        self.assertEqual(set(rows), there)

        def has(name):
            try:
                importlib.import_module(f"taskpool.{name}")
            except ModuleNotFoundError:
                return False
            return True

        self.check(rows, has)

    def test_submodules_have_what_is_public_in_theirs(self):
        for name, (verdict, _) in table("submodule").items():
            if verdict != "not offered":
                theirs = importlib.import_module(f"multiprocessing.{name}")
                ours = importlib.import_module(f"taskpool.{name}")
                missing = {public for public in getattr(theirs, "__all__", ()) if not hasattr(ours, public)}
                self.assertEqual(missing, set(), name)


if __name__ == "__main__":
    unittest.main()
