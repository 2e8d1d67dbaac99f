"""Looking at processes from outside, in /proc."""

import collections
import os
import re
import signal


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def text(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def is_alive(pid):
    state = re.search(r"^State:\s+(\w)", text(pid, "status"), re.M)
    return bool(state) and state.group(1) not in "ZX"


def send(pid, parent, number):
    """Sends a signal to a child of `parent`; nothing if it is that no more. True: it was sent."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if parent is not None and pid not in children(parent):
            return False
        signal.pidfd_send_signal(pidfd, number)
        return True
    except OSError:
        return False
    finally:
        os.close(pidfd)


def descriptors(pid):
    """How many descriptors of each kind a process has: {"socket": 3, "memfd:taskpool-arena": 1}."""
    found = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        found[re.sub(r":\[\d+\]$| \(deleted\)$", "", target)] += 1
    return found


def shared_mappings(pid):
    """How many mappings of shared memory files a process has, by name."""
    found = collections.Counter()
    for line in text(pid, "maps").splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and "s" in words[1]:
            found[words[5].replace(" (deleted)", "")] += 1
    return found


def with_environment(name, value):
    """The processes that have this in their environment."""
    wanted = f"{name}={value}"
    return [int(entry) for entry in os.listdir("/proc")
            if entry.isdigit() and wanted in text(int(entry), "environ").split("\0") and is_alive(int(entry))]


def about(pid):
    """For the report of a hang: what it is and what each of its threads waits in."""
    lines = [text(pid, "cmdline").replace("\0", " ").strip()]
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        threads = []
    for thread in threads:
        lines.append(f"  thread {thread}: {text(pid, f'task/{thread}/wchan')} {text(pid, f'task/{thread}/syscall').strip()}")
    return "\n".join(lines)
