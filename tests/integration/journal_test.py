#!/usr/bin/python3
"""The log as systemd's journal gets it, from a daemon that finds a journal of ours at the usual place."""

import os
import shutil
import socket
import struct
import subprocess
import unittest

from story import Daemon, eventually

PLACE = "/run/systemd/journal"
# A mount namespace in which that place is ours. $0 is the directory, the rest the program.
INSIDE = f'mount -t tmpfs none /run && mkdir -p {PLACE} && mount --bind "$0" {PLACE} && exec "$@"'


def can_mount():
    tried = subprocess.run(["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/run"], capture_output=True)
    return tried.returncode == 0


def fields_of(record):
    """The fields of one datagram: KEY=value, or KEY, a length of 8 bytes, and so many bytes."""
    fields, at = {}, 0
    while at < len(record):
        end = record.index(b"\n", at)
        line = record[at:end]
        if b"=" in line:
            key, value = line.split(b"=", 1)
            at = end + 1
        else:
            (size,) = struct.unpack_from("<Q", record, end + 1)
            key, value = line, record[end + 9:end + 9 + size]
            assert record[end + 9 + size:end + 10 + size] == b"\n"
            at = end + 10 + size
        assert key.decode() not in fields, key
        fields[key.decode()] = value.decode()
    return fields


class FakeJournal:
    def __init__(self, directory):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(directory, "socket"))
        self.socket.setblocking(False)
        self.records = []

    def all(self):
        while True:
            try:
                self.records.append(fields_of(self.socket.recv(1 << 20)))
            except BlockingIOError:
                return self.records

    def find(self, event):
        return next((record for record in self.all() if record["EVENT"] == event), None)


@unittest.skipUnless(shutil.which("unshare") and can_mount(), "SKIPPED: no mount namespace can be made here")
class Journal(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon('cancel_grace = "100ms"')
        self.addCleanup(self.daemon.__exit__, None)
        os.mkdir(os.path.join(self.daemon.directory, "journal"))
        self.journal = FakeJournal(os.path.join(self.daemon.directory, "journal"))
        self.addCleanup(self.journal.socket.close)
        self.stream, theirs = socket.socketpair()
        self.addCleanup(self.stream.close)
        self.theirs = theirs
        self.addCleanup(theirs.close)

    def start(self, stream):
        """Starts the daemon with its standard error on our stream, of which `stream` is said to be the journal's."""
        command = ["unshare", "--mount", "--map-root-user", "sh", "-c", INSIDE, os.path.join(self.daemon.directory, "journal"),
                   os.path.join(self.daemon.binaries, "taskpoold"), "--config", self.daemon.config, "--socket", self.daemon.socket]
        self.daemon.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.theirs,
                                               env=dict(os.environ, JOURNAL_STREAM=stream))
        open(self.daemon.log_path, "w").close()
        eventually(lambda: os.path.exists(self.daemon.socket) or self.daemon.process.poll() is not None, "it listens")
        self.assertIsNone(self.daemon.process.poll())

    def own_stream(self):
        status = os.fstat(self.theirs.fileno())
        return f"{status.st_dev}:{status.st_ino}"

    def test_records_have_fields_and_no_line_is_written(self):
        self.start(self.own_stream())
        started = eventually(lambda: self.journal.find("started"), "it says that it has started")
        self.assertEqual(started["PRIORITY"], "6")
        self.assertEqual(started["SYSLOG_IDENTIFIER"], "taskpoold")
        self.assertEqual(started["SOCKET"], self.daemon.socket)
        self.assertEqual(started["PID"], str(self.daemon.process.pid))
        self.assertTrue(started["MESSAGE"].startswith("event=started socket="))
        with self.daemon.session() as session:
            with self.assertRaises(Exception):
                session.apply("crash", 9)
            session.ask("pool_pause")
        exited = eventually(lambda: self.journal.find("worker_exited"), "it says that a worker has died")
        self.assertEqual(exited["PRIORITY"], "4")
        self.assertEqual(exited["POOL"], "default")
        self.assertTrue(exited["WORKER"].isdigit())
        paused = eventually(lambda: self.journal.find("audit"), "it says who paused a pool")
        self.assertEqual((paused["OP"], paused["POOL"], paused["UID"], paused["OUTCOME"]), ("pool_pause", "default", "0", "ok"))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertTrue(self.journal.find("stopped"))
        self.theirs.close()
        written = b""
        while piece := self.stream.recv(65536):
            written += piece
        self.assertNotIn(b"event=", written)

    def test_another_stream_is_plain_text(self):
        self.start("1:1")
        with self.daemon.session() as session:
            session.ask("ping")
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(self.journal.all(), [])
        self.assertRegex(self.stream.recv(65536).decode(), r"^time=\S+ level=\w+ event=\w+")

    def test_without_a_journal_lines_are_written(self):
        os.unlink(os.path.join(self.daemon.directory, "journal", "socket"))
        self.start(self.own_stream())
        self.assertEqual(self.daemon.stop(), 0)
        self.assertRegex(self.stream.recv(65536).decode(), r"time=\S+ level=\w+ event=\w+")


if __name__ == "__main__":
    unittest.main()
