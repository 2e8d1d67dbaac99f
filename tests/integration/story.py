"""What the stories about the daemon share: one daemon for the tests of a class, and sessions that end with the test."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))

from wire import *  # noqa: E402,F401,F403
from wire import Daemon, Failed  # noqa: E402


class Story(unittest.TestCase):
    """Tests that share one daemon, which `config` and `pools` describe."""

    config = ""
    pools = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(cls.config, pools=cls.pools)
        cls.daemon.start()
        cls.addClassCleanup(cls.stop_daemon)

    @classmethod
    def stop_daemon(cls):
        code = cls.daemon.stop()
        log = cls.daemon.log()
        cls.daemon.__exit__(None)
        assert code == 0, f"the daemon ended with {code}:\n{log[-6000:]}"
        assert "event=bug" not in log, log[-6000:]

    def session(self, **hello):
        session = self.daemon.session(**hello)
        self.addCleanup(session.close)
        return session

    def assert_fails(self, code, call, *arguments, **options):
        """The error that a request gets, which has that code."""
        with self.assertRaises(Failed) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception
