"""Shared libraries made of a little C, for tests of modules."""

import os
import subprocess
import tempfile
import unittest

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def compile_library(source, path, *options):
    """Makes the file, at once and whole; skips the test where there is no compiler."""
    beside = path + ".new"
    compiled = subprocess.run(["cc", "-shared", "-fPIC", "-I", SOURCES, *options, "-x", "c", "-", "-o", beside], input=source.encode())
    if compiled.returncode != 0:
        raise unittest.SkipTest("SKIPPED: no C compiler")
    os.replace(beside, path)


class Library:
    """A library in a directory of its own, which is gone with the `with`."""

    def __init__(self, source):
        self.source = source

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "other.so")
        compile_library(self.source, self.path)
        return self

    def __exit__(self, *_):
        self.directory.cleanup()
