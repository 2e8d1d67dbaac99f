#!/usr/bin/python3
"""What vm_test.py runs inside its machine, as root: the installed service with cgroups of version 2, and tasks beyond their limits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback

SOCKET = "/run/taskpool/taskpool.sock"
DEADLINE = 120.0  # seconds; this is an emulated machine
MIB = 1 << 20
LIMIT = 96 * MIB
CONFIG = """
log_level = "info"
[[pool]]
name = "default"
modules = ["demo"]
workers = 2
[[pool]]
name = "native"
modules = ["demo"]
workers = 1
max_task_memory = "96MiB"
[[pool]]
name = "command"
runtime = "command"
workers = 1
max_task_memory = "96MiB"
max_task_processes = 12
[[pool]]
name = "python"
runtime = "python"
modules = ["guest_tasks"]
environment = { PYTHONPATH = "/opt/guest", PYTHONDONTWRITEBYTECODE = "1" }
workers = 1
max_task_memory = "96MiB"
max_task_processes = 12
[[pool]]
name = "cpu"
runtime = "command"
workers = 1
cpu_timeout = "1s"
[[pool]]
name = "recycled"
runtime = "python"
modules = ["guest_tasks"]
environment = { PYTHONPATH = "/opt/guest", PYTHONDONTWRITEBYTECODE = "1" }
workers = 1
max_worker_memory = "64MiB"
max_task_memory = "400MiB"
[[pool]]
name = "few"
modules = ["demo"]
workers = 1
max_tasks_per_worker = 2
max_task_memory = "96MiB"
"""
TASKS = """
import os, threading
kept = []

def allocate(size):
    return len(bytearray(size))

def keep(size):
    kept.append(bytearray(size))
    return os.getpid()

def threads(count):
    done = threading.Event()
    made = []
    try:
        for _ in range(count):
            made.append(threading.Thread(target=done.wait))
            made[-1].start()
    finally:
        done.set()
    return count
"""


def run(*command, check=True):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def taskpool(*words, check=True):
    return run("taskpool", "--socket", SOCKET, *words, check=check)


def eventually(question, what):
    end = time.monotonic() + DEADLINE
    while not (answer := question()):
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.05)
    return answer


def read(path):
    with open(path) as file:
        return file.read()


def main_pid():
    return int(run("systemctl", "show", "--value", "-p", "MainPID", "taskpoold.service").stdout)


def rows(what):
    """What there is of "pools", "workers", "tasks" or "counters"."""
    return json.loads(taskpool("--json", {"tasks": "ps", "counters": "stats"}.get(what, what)).stdout)[what]


def pool(name):
    return next(row for row in rows("pools") if row["pool"] == name)


def workers(name):
    return [row for row in rows("workers") if row["pool"] == name]


def fails(*words):
    done = taskpool("apply", *words, check=False)
    assert done.returncode == 1, (words, done)
    return done.stderr


def out_of_memory(*words):
    text = fails(*words)
    found = re.search(r"out_of_memory: worker \d+ \(pid \d+\) was killed for memory: peak (\d+) bytes, max_task_memory (\d+) bytes", text)
    assert found, text
    peak, limit = map(int, found.groups())
    assert limit == LIMIT and LIMIT * 0.9 < peak <= LIMIT, text


def base():
    return "/sys/fs/cgroup" + read(f"/proc/{main_pid()}/cgroup").strip().removeprefix("0::").removesuffix("/supervisor")


def worker_groups():
    return sorted(name for name in os.listdir(base()) if name.startswith("worker-"))


def the_daemon_divides_its_cgroup():
    taskpool("apply", "square", "2")
    assert read(f"/proc/{main_pid()}/cgroup").strip().endswith("/taskpoold.service/supervisor")
    limits = pool("python")["limits"]
    assert limits == {"max_task_memory": {"limit": LIMIT, "by": "cgroup"}, "max_task_processes": {"limit": 12, "by": "cgroup"}}, limits
    assert pool("default").get("limits") is None
    row = eventually(lambda: workers("native"), "a worker")[0]
    group = f"{base()}/worker-{row['worker']}"
    assert read(f"/proc/{row['pid']}/cgroup").strip() == "0::" + group.removeprefix("/sys/fs/cgroup")
    assert [read(f"{group}/{name}").strip() for name in ("memory.max", "memory.swap.max", "memory.oom.group")] == [str(LIMIT), "0", "1"]
    free = eventually(lambda: workers("default"), "a worker")[0]
    assert read(f"/proc/{free['pid']}/cgroup").strip().endswith("/supervisor"), "without limits there is no group"


def a_task_out_of_memory_costs_itself_alone():
    daemon = main_pid()
    other = subprocess.Popen(["taskpool", "--socket", SOCKET, "apply", "sleep", "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: [row for row in rows("tasks") if row["function"] == "sleep" and row["state"] == "running"], "the other task runs")
    out_of_memory("--pool", "native", "allocate", str(300 * MIB))
    out_of_memory("--pool", "python", "guest_tasks.allocate", str(300 * MIB))
    # A command is no process of the worker's own, and a child of it even less.
    hog = f"bytearray({300 * MIB})"
    out_of_memory("--pool", "command", "--", "python3", "-c", hog)
    out_of_memory("--pool", "command", "--", "sh", "-c", f"python3 -c '{hog}'; echo survived")
    for name, words in (("native", ["square", "3"]), ("python", ["guest_tasks.allocate", "9"]), ("command", ["--", "echo", "9"])):
        assert taskpool("apply", "--pool", name, *words).stdout.strip() == "9"
    out, err = other.communicate(timeout=DEADLINE)
    assert other.returncode == 0, err
    assert main_pid() == daemon
    counters = {row["name"]: row["value"] for row in rows("counters")}
    assert counters["tasks_out_of_memory_total"] == 4 and counters["zygotes_died_total"] == 0, counters


def other_deaths_are_told_apart():
    text = fails("--pool", "native", "crash", str(int(signal.SIGKILL)))
    assert "worker_lost" in text and "signal 9" in text, text
    text = fails("--pool", "native", "crash", str(int(signal.SIGSEGV)))
    assert "worker_lost" in text and "signal 11" in text, text


def deaths():
    return run("journalctl", "-u", "taskpoold.service", "-o", "cat").stdout.count("was killed for memory")


def repeats_have_a_cap_of_their_own():
    before = deaths()
    out_of_memory("--pool", "native", "--oom-retries", "2", "--retry-delay", "1ms", "allocate", str(300 * MIB))
    eventually(lambda: deaths() == before + 3, "it ran three times")
    out_of_memory("--pool", "native", "--lost-retries", "2", "--retry-delay", "1ms", "allocate", str(300 * MIB))
    eventually(lambda: deaths() == before + 4, "it ran once")


def processes_are_bounded():
    script = "import os, time\nn = 0\ntry:\n while n < 50:\n  if os.fork() == 0: time.sleep(60); os._exit(0)\n  n += 1\nexcept OSError as e: print(n, e.errno)"
    done = taskpool("apply", "--pool", "command", "--", "python3", "-c", script)
    count, number = map(int, done.stdout.split())
    assert 5 <= count < 12 and number == 11, done.stdout  # EAGAIN
    text = fails("--pool", "python", "guest_tasks.threads", "50")
    assert "start new thread" in text, text
    assert taskpool("apply", "--pool", "python", "guest_tasks.threads", "5").stdout.strip() == "5"


def what_a_task_left_running_ends_with_its_worker():
    # The children of the step before sleep in there.
    row = eventually(lambda: workers("command"), "a worker")[0]
    group = f"{base()}/worker-{row['worker']}"
    left = [int(pid) for pid in read(group + "/cgroup.procs").split() if int(pid) != row["pid"]]
    assert len(left) >= 5, left
    os.kill(row["pid"], signal.SIGKILL)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left), "they end")
    assert taskpool("apply", "--pool", "command", "--", "echo", "on").stdout == "on\n"


def cpu_time_counts_all_of_the_group():
    # The worker's own process sleeps; its grandchild, whose parent has ended, does not.
    script = "sh -c 'python3 -c \"while True: pass\" &' ; sleep 100"
    text = fails("--pool", "cpu", "--", "sh", "-c", script)
    assert "timed_out: cpu_timeout_ms: killed after" in text, text


def workers_are_recycled():
    pids = [int(taskpool("apply", "--pool", "recycled", "guest_tasks.keep", str(20 * MIB)).stdout) for _ in range(8)]
    assert len(set(pids)) >= 2, pids
    first = eventually(lambda: workers("few"), "a worker")[0]["worker"]
    for number in range(5):
        taskpool("apply", "--pool", "few", "square", str(number))
    assert eventually(lambda: workers("few"), "a worker")[0]["worker"] != first
    counters = {row["name"]: row["value"] for row in rows("counters")}
    assert counters["workers_recycled_total"] >= 3, counters


def no_group_is_left_over():
    def only_those_of_workers():
        # A new worker's group comes after the removal of those that could not go at once.
        taskpool("apply", "--pool", "few", "square", "1")
        alive = {f"worker-{row['worker']}" for row in rows("workers")}
        return len(set(worker_groups()) - alive) <= 1
    eventually(only_those_of_workers, "the groups of dead workers are removed")


def a_killed_daemon_divides_it_again():
    before = main_pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: taskpool("apply", "--pool", "native", "square", "3", check=False).stdout.strip() == "9", "another daemon serves")
    assert main_pid() not in (0, before)
    assert pool("native")["limits"]["max_task_memory"]["by"] == "cgroup"
    out_of_memory("--pool", "native", "allocate", str(300 * MIB))


def a_reload_keeps_the_limits():
    run("systemctl", "reload", "taskpoold.service")
    out_of_memory("--pool", "native", "allocate", str(300 * MIB))
    assert read(f"/proc/{main_pid()}/cgroup").strip().endswith("/supervisor")


def main():
    command = run("systemctl", "show", "--value", "-p", "ExecStart", "taskpoold.service").stdout
    config = re.search(r"--config (\S+)", command)[1]
    os.makedirs(os.path.dirname(config), exist_ok=True)
    with open(config, "w") as file:
        file.write(CONFIG)
    with open("/opt/guest/guest_tasks.py", "w") as file:
        file.write(TASKS)
    run("systemctl", "start", "taskpoold.socket")
    run("systemctl", "start", "taskpoold.service")  # in an emulated machine that takes longer than a client waits for a greeting
    try:
        for step in (the_daemon_divides_its_cgroup, a_task_out_of_memory_costs_itself_alone, other_deaths_are_told_apart,
                     repeats_have_a_cap_of_their_own, processes_are_bounded, what_a_task_left_running_ends_with_its_worker,
                     cpu_time_counts_all_of_the_group, workers_are_recycled, no_group_is_left_over, a_killed_daemon_divides_it_again,
                     a_reload_keeps_the_limits):
            began = time.monotonic()
            step()
            print(f"ok: {step.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s)", flush=True)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        print(run("journalctl", "--no-pager", "-n", "40", "-o", "cat", check=False).stdout)
        raise
    print("all steps passed", flush=True)


if __name__ == "__main__":
    main()
