#!/usr/bin/env python3
"""`pip install ./client/python` works without the network, and what it installs finds a daemon and works in it."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import DEADLINE, wire

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SOURCE = os.path.join(ROOT, "client", "python")
PROGRAM = '''
import taskpool
def where(): return taskpool.__file__
if __name__ == "__main__":
    with taskpool.Pool(1) as pool:
        print(pool.apply(where))
    print(taskpool.info()["extension"], taskpool.info()["reader"])
'''


def has_pip():
    return subprocess.run([sys.executable, "-c", "import pip, venv, ensurepip"], capture_output=True).returncode == 0


@unittest.skipUnless(has_pip(), "pip or venv is not installed")
class Install(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="taskpool-install-")
        self.addCleanup(shutil.rmtree, self.directory, True)

    def run_soon(self, *command, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKPOOL_", "PYTHON"))}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10 * DEADLINE, cwd=self.directory,
                              env={**kept, **environment})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_in_a_virtual_environment(self):
        source = os.path.join(self.directory, "source")
        shutil.copytree(SOURCE, source)
        environment = os.path.join(self.directory, "environment")
        python = os.path.join(environment, "bin", "python3")
        self.run_soon(sys.executable, "-m", "venv", environment)
        self.run_soon(python, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", source)
        program = os.path.join(self.directory, "program.py")
        with open(program, "w") as file:
            file.write(PROGRAM)
        runtime = os.path.join(self.directory, "run")
        os.mkdir(runtime, 0o700)
        home = os.path.dirname(wire.binaries())
        lines = self.run_soon(python, program, TASKPOOL_HOME=home, XDG_RUNTIME_DIR=runtime).splitlines()
        self.assertTrue(lines[0].startswith(environment + os.sep), lines)
        # Another interpreter on the same daemon has workers of its own.
        package = os.path.join(home, "python")
        lines = self.run_soon(sys.executable, program, TASKPOOL_HOME=home, XDG_RUNTIME_DIR=runtime, PYTHONPATH=package,
                              PYTHONDONTWRITEBYTECODE="1").splitlines()
        self.assertTrue(lines[0].startswith(package + os.sep), lines)
        self.stop(runtime, package)

    def test_a_source_distribution_holds_the_reader(self):
        build = [sys.executable, "-c", "import build_wheel, sys; print(build_wheel.build_sdist(sys.argv[1]))", self.directory]
        name = self.run_soon(*build, PYTHONPATH=os.path.join(SOURCE, "packaging"), PYTHONDONTWRITEBYTECODE="1").strip()
        installed = os.path.join(self.directory, "installed")
        self.run_soon(sys.executable, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", "--target", installed, name)
        reader = "import taskpool.mapping; print(taskpool.mapping.READER)"
        self.assertEqual(self.run_soon(sys.executable, "-c", reader, PYTHONPATH=installed), "extension\n")

    def stop(self, runtime, package):
        """Ends the private daemon that the programs started."""
        folder = os.path.join(runtime, "taskpool")
        sockets = [name for name in os.listdir(folder) if name.endswith(".sock")]
        self.assertEqual(len(sockets), 1)
        with wire.Session(os.path.join(folder, sockets[0])) as session:
            session.ask("shutdown")


if __name__ == "__main__":
    unittest.main()
