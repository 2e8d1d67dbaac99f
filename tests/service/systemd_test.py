#!/usr/bin/python3
"""The Debian packages on a Debian where systemd is PID 1: installed, activated, killed, stuck, reloaded, upgraded, removed.

Makes a small Debian with mmdebstrap (half a minute, with the network) and boots it with systemd-nspawn.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile

from support import DEADLINE, depends, eventually, make_root, package, require, run, skip_unless_namespaces_work

SOCKET = "/run/taskpool/taskpool.sock"


class Machine:
    """The booted container. Commands run inside as root, or as a user."""

    def __init__(self, root):
        self.root = root
        self.log = open(root + ".log", "w+")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "-D", root, "--register=no", "--keep-unit", "--boot", "--machine=taskpool-test", "--private-network",
             "--console=pipe"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        self.pid1 = eventually(self.find_pid1, "systemd starts inside")
        eventually(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), "it has booted")

    def find_pid1(self):
        if self.nspawn.poll() is not None:
            skip_unless_namespaces_work("systemd-nspawn: " + open(self.log.name).read()[-300:])
        for child in run("pgrep", "-P", str(self.nspawn.pid), check=False).stdout.split():
            with contextlib.suppress(OSError), open(f"/proc/{child}/comm") as file:
                if file.read().strip() == "systemd":
                    return child
        return None

    def enter(self, *command, user=None):
        inside = ["nsenter", "-t", self.pid1, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "env", "TASKPOOL_SOCKET=" + SOCKET]
        return [*inside, *(["runuser", "-u", user, "--"] if user else []), *command]

    def run(self, *command, user=None, **options):
        return run(*self.enter(*command, user=user), **options)

    def start(self, *command, user=None):
        return subprocess.Popen(self.enter(*command, user=user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def show(self, unit, name):
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def state(self, unit):
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip()

    def main_pid(self):
        pid = self.show("taskpoold.service", "MainPID")
        return None if pid == "0" else pid

    def journal(self):
        return self.run("journalctl", "--no-pager", "-n", "60", check=False).stdout

    def stop(self):
        self.run("systemctl", "poweroff", check=False)
        try:
            self.nspawn.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self.nspawn.pid, signal.SIGKILL)
            self.nspawn.wait()
        self.log.close()


def squares(machine, *numbers, user="ann"):
    done = machine.run("taskpool", "map", "square", *map(str, numbers), user=user)
    assert json.loads(done.stdout) == [number * number for number in numbers], done.stdout


def installed_and_activated(machine):
    machine.run("dpkg", "-i", "/taskpool.deb")
    assert machine.state("taskpoold.socket") == "active"
    assert machine.state("taskpoold.service") == "inactive", "nobody asked for it yet"
    machine.run("useradd", "-m", "-G", "taskpool", "ann")
    machine.run("useradd", "-m", "bob")
    squares(machine, 1, 2, 3)
    assert machine.state("taskpoold.service") == "active"
    refused = machine.run("taskpool", "map", "square", "1", user="bob", check=False)
    assert refused.returncode == 1 and "permission_denied" in refused.stderr, refused.stderr


def tasks_are_confined(machine):
    def task(*command):
        return machine.run("taskpool", "apply", "--", *command, user="ann", check=False)

    assert task("id", "-un").stdout.strip() == "taskpool"
    assert task("ls", "/home/ann").returncode != 0, "a home is seen"
    assert task("touch", "/var/there").returncode != 0, "the file system is writable"
    assert task("touch", "/tmp/there").returncode == 0
    assert not os.path.exists(os.path.join(machine.root, "tmp/there")), "/tmp is shared"


def keep(machine, value):
    machine.run("taskpool", "dict", "kept", "set", "number", str(value), user="ann")


def kept(machine):
    return json.loads(machine.run("taskpool", "dict", "kept", "get", "number", user="ann").stdout)


def killed_and_restarted_with_the_store_intact(machine):
    keep(machine, 1)
    before = machine.main_pid()
    machine.run("kill", "-9", before)
    squares(machine, 4, 5)
    eventually(lambda: machine.main_pid() not in (None, before), "another daemon runs")
    assert machine.state("taskpoold.service") == "active"
    assert kept(machine) == 1
    keep(machine, 2)
    machine.run("systemctl", "stop", "taskpoold.service")
    assert kept(machine) == 2, "what a stop leaves"


@contextlib.contextmanager
def edited_configuration(machine, change):
    """taskpool.toml with its lines as `change` makes them."""
    config = os.path.join(machine.root, "etc/taskpool/taskpool.toml")
    with open(config) as file:
        before = file.readlines()
    with open(config, "w") as file:
        file.writelines(change(before))
    yield
    with open(config, "w") as file:
        file.writelines(before)


def python_functions_run(machine):
    machine.run("dpkg", "-i", "/python3-taskpool.deb")
    pool = '\n[[pool]]\nname = "maths"\nruntime = "python"\nmodules = ["math"]\n'
    with edited_configuration(machine, lambda lines: [*lines, pool]):
        machine.run("systemctl", "reload", "taskpoold.service")
        done = machine.run("taskpool", "apply", "--pool", "maths", "math.factorial", "20", user="ann")
        assert json.loads(done.stdout) == 2432902008176640000, done.stdout
        program = "import taskpool; print(taskpool.info()['extension'], taskpool.cpu_count() > 0)"
        assert machine.run("python3", "-c", program, user="ann").stdout.split() == ["True", "True"]
    machine.run("systemctl", "reload", "taskpoold.service")
    machine.run("dpkg", "--purge", "python3-taskpool")


def a_user_has_a_daemon_of_his_own(machine):
    uid = machine.run("id", "-u", "bob").stdout.strip()
    machine.run("systemctl", "start", f"user@{uid}.service")
    own = [f"XDG_RUNTIME_DIR=/run/user/{uid}", f"TASKPOOL_SOCKET=/run/user/{uid}/taskpool/taskpool.sock"]

    def as_bob(*command, **options):
        return machine.run("env", *own, *command, user="bob", **options).stdout

    as_bob("systemctl", "--user", "enable", "--now", "taskpoold.socket")
    assert json.loads(as_bob("taskpool", "map", "square", "2", "3")) == [4, 9]
    assert as_bob("systemctl", "--user", "is-active", "taskpoold.service").strip() == "active"
    assert as_bob("taskpool", "apply", "--", "id", "-un").strip() == "bob"
    as_bob("systemctl", "--user", "disable", "--now", "taskpoold.socket", "taskpoold.service")
    machine.run("systemctl", "stop", f"user@{uid}.service")


def stuck_and_restarted(machine):
    drop_in = os.path.join(machine.root, "etc/systemd/system/taskpoold.service.d")
    os.makedirs(drop_in)
    with open(os.path.join(drop_in, "watchdog.conf"), "w") as file:
        file.write("[Service]\nWatchdogSec=1s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "taskpoold.service")
    squares(machine, 6)
    before = machine.main_pid()
    machine.run("kill", "-STOP", before)
    eventually(lambda: machine.main_pid() not in (None, before), "the watchdog restarts it")
    squares(machine, 7)
    assert "Watchdog timeout" in machine.journal()


def reloaded_without_a_failed_request(machine):
    program = "until [ -e /run/enough ]; do taskpool map square 1 2 3 4 || exit; done"
    clients = [machine.start("sh", "-c", program, user="ann") for _ in range(2)]
    reloads = 20
    for _ in range(reloads):
        machine.run("systemctl", "reload", "taskpoold.service")
    machine.run("touch", "/run/enough")
    maps = 0
    for client in clients:
        out, err = client.communicate(timeout=DEADLINE)
        lines = out.split("\n")[:-1]
        assert client.returncode == 0 and lines and set(lines) == {"[1, 4, 9, 16]"}, (client.returncode, lines, err)
        maps += len(lines)
    print(f"{reloads} reloads under {maps} maps, none failed")


@contextlib.contextmanager
def configured(machine, key, value):
    """taskpool.toml with another value of `key`, which the next start reads."""
    line = f"{key} = {json.dumps(value)}\n"
    with edited_configuration(machine, lambda lines: [line, *(each for each in lines if not each.startswith(key + " "))]):
        yield
    machine.run("systemctl", "restart", "taskpoold.service")


def admins_have_a_socket_apart(machine):
    admin = "/run/taskpool/admin.sock"
    with configured(machine, "admin_requests", "admin_socket"):
        machine.run("systemctl", "enable", "taskpoold-admin.socket")
        machine.run("systemctl", "stop", "taskpoold.service")
        machine.run("systemctl", "start", "taskpoold-admin.socket")
        squares(machine, 8)
        refused = machine.run("taskpool", "reload", check=False)
        assert refused.returncode == 1 and "permission_denied" in refused.stderr, refused.stderr
        machine.run("taskpool", "--socket", admin, "reload")
        shut = machine.run("taskpool", "--socket", admin, "ping", user="ann", check=False)
        assert shut.returncode != 0, "a user reaches the admin socket"
        machine.run("systemctl", "disable", "--now", "taskpoold-admin.socket")


def metrics_are_reached_through_a_socket_unit(machine):
    """With the units of the README, as they stand there."""
    with open(os.path.join(os.path.dirname(__file__), "../../README.md")) as file:
        readme = file.read()
    units = os.path.join(machine.root, "etc/systemd/system")
    for name in ("taskpool-metrics.socket", "taskpool-metrics.service"):
        text = readme.split(f"# /etc/systemd/system/{name}\n")[1].split("\n\n")[0].split("```")[0]
        with open(os.path.join(units, name), "w") as file:
            file.write(text)
    with configured(machine, "metrics_listen", "/run/taskpool/metrics"):
        machine.run("systemctl", "restart", "taskpoold.service")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "taskpool-metrics.socket")
        squares(machine, 9)
        program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics', timeout=20).read().decode())"
        page = machine.run("python3", "-c", program).stdout
        assert "taskpool_tasks_succeeded_total" in page, page[:2000]
        machine.run("systemctl", "stop", "taskpool-metrics.socket", "taskpool-metrics.service")


def upgraded_while_tasks_run(machine):
    keep(machine, 3)
    before = machine.main_pid()
    running = machine.start("taskpool", "apply", "sleep", "3", user="ann")
    eventually(lambda: '"sleep"' in machine.run("taskpool", "--json", "ps", user="ann").stdout, "the task runs")
    machine.run("dpkg", "-i", "/taskpool.deb")
    _, err = running.communicate(timeout=DEADLINE)
    assert running.returncode == 0, err
    squares(machine, 8)
    assert machine.main_pid() not in (None, before), "the daemon is the old one"
    assert kept(machine) == 3


def removed(machine):
    machine.run("dpkg", "--purge", "taskpool")
    assert machine.state("taskpoold.service") != "active"
    assert machine.state("taskpoold.socket") != "active"
    for path in ("run/taskpool", "etc/taskpool", "usr/bin/taskpool", "usr/lib/taskpool"):
        assert not os.path.exists(f"/proc/{machine.pid1}/root/{path}"), path


def main():
    require("mmdebstrap", "systemd-nspawn", "dpkg-deb", "nsenter")
    debs = {name: package(name) for name in ("taskpool", "python3-taskpool")}
    with tempfile.TemporaryDirectory(prefix="taskpool-systemd-") as directory:
        root = os.path.join(directory, "root")
        make_root(root, ["systemd", "systemd-sysv", "libpam-systemd", "dbus", "procps",
                         *(name for deb in debs.values() for name in depends(deb))])
        for name, deb in debs.items():
            shutil.copy(deb, os.path.join(root, name + ".deb"))
        machine = Machine(root)
        try:
            for step in (installed_and_activated, tasks_are_confined, killed_and_restarted_with_the_store_intact, python_functions_run,
                         a_user_has_a_daemon_of_his_own, stuck_and_restarted, reloaded_without_a_failed_request,
                         admins_have_a_socket_apart, metrics_are_reached_through_a_socket_unit, upgraded_while_tasks_run, removed):
                step(machine)
                print("ok:", step.__name__.replace("_", " "), flush=True)
        except BaseException:
            print(machine.journal())
            raise
        finally:
            machine.stop()


if __name__ == "__main__":
    main()
