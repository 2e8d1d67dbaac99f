"""What is left when all clients have ended: first what the daemon still has of theirs, then what it leaves behind itself."""

import grp
import os
import signal
import sys
import time

import journal
import processes

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))

from store import Int, Store  # noqa: E402
from wire import Failed, eventually  # noqa: E402

#: Seconds for what ends by itself: sessions that may come back, starts that are backed off from, tasks that nobody waits for.
DEADLINE = 40
FILES = {"config.toml", "daemon.log", "effects", "socket.lock", "socket.spool", "socket.store"}


def end(world, history):
    """What should not be there, in words; fills in what the history knows of the store and of results. Ends the daemon."""
    wrong = []
    with world.session() as session:
        wrong += settled(session)
        fetch(world, session, history)
        join(world, session, history)
        history.store = shared_objects(session)
    wrong += compared_with_a_fresh_one(world)
    wrong += left_behind(world)
    if "event=bug" in world.log():
        wrong.append("the daemon's log: " + next(line for line in world.log().splitlines() if "event=bug" in line))
    return wrong


def settled(session):
    """Waits until nothing is under way; what does not end is wrong."""
    def counters():
        return {row["name"]: row["value"] for row in session.ask("stats")["counters"]}

    def is_idle():
        found = counters()
        return found["sessions_open"] == 1 and found["tasks_waiting"] == found["tasks_running"] == found["store_waiting"] == 0

    wrong = []
    session.ask("reload")  # workers whose tasks ran tasks have sessions of their own
    try:
        eventually(is_idle, "the daemon is idle", DEADLINE)
    except AssertionError:
        found = counters()
        wrong.append("not idle: " + ", ".join(f"{name} {found[name]}" for name in (
            "sessions_open", "tasks_waiting", "tasks_running", "store_waiting")) + f"; {session.ask('ps', {'all': True})}")
    try:
        eventually(lambda: not session.ask("locks")["locks"], "no lock is held", DEADLINE)
    except AssertionError:
        wrong.append(f"locks held by nobody who lives: {session.ask('locks')['locks']}")
    try:
        eventually(lambda: sorted(row["pool"] for row in session.ask("pools")["pools"]) == ["command", "default"]
                   and all(row["idle"] == row["target"] == row["workers"] for row in session.ask("pools")["pools"]), "pools", DEADLINE)
    except AssertionError:
        wrong.append(f"pools that are not as they were: {session.ask('pools')['pools']}")
    return wrong


def result(session, request, number):
    try:
        return {"code": "ok", "wrong": [] if session.result(request) == journal.mixed(number) else [0]}
    except Failed as error:
        return {"code": error.code, "detail": error.detail}


def journals(world):
    for client in world.clients:
        if os.path.exists(world.journals[client.number]):
            yield client, journal.read(world.journals[client.number])


def fetch(world, session, history):
    """The results of detached calls that nobody is known to have taken."""
    for _, lines in journals(world):
        taken = {line["call"] for line in lines if line["e"] == "end" and line["code"] == "ok"}
        fetched = {line["task"] for line in lines if line["e"] == "begin" and line["kind"] == "fetch" and line["call"] in taken}
        numbers = {line["call"]: line["effects"][0] for line in lines if line["e"] == "begin" and line.get("detached")}
        for line in lines:
            if line["e"] == "end" and line["call"] in numbers and line["code"] == "ok" and line["task"] not in fetched:
                request = session.new_request()
                session.send("fetch", head={"task": line["task"]}, request=request)
                history.fetched[line["task"]] = result(session, request, numbers[line["call"]])


def join(world, session, history):
    """Keyed calls of clients that were killed: whoever asks again gets the result of the first run, or makes the only one."""
    for client, lines in journals(world):
        if client.ended != "killed":
            continue
        ended = {line["call"] for line in lines if line["e"] == "end"}
        for line in lines:
            if line["e"] == "begin" and line.get("key") and line["kind"] == "apply" and line["call"] not in ended:
                number = line["effects"][0]
                history.joined[line["call"]] = result(
                    session, session.start("effect", [number, 0], idempotency_key=line["key"]), number)


def shared_objects(session):
    store = Store(session)
    counters = store.open("dict", "chaos.counters").items()
    queue = store.open("queue", "chaos.queue")
    left = []
    while True:
        try:
            left.append(queue.op("queue_get", Int(0)))
        except Failed as error:
            if error.code != "timed_out":
                raise
            break
    guarded = store.open("value", "chaos.guarded", body=b"0", encoding=1).op("value_get")
    return {"counters": counters, "list": store.open("list", "chaos.list").all(), "queue": left, "guarded": guarded}


def held(world):
    """Descriptors and shared mappings of the daemon and its zygotes, when it has nothing to do."""
    def is_quiet():
        """One zygote for each pool, and so none that is kept warm for a session's pool that is gone."""
        return all(processes.children(zygote) for zygote in world.zygotes()) and len(world.zygotes()) == 2

    for zygote in world.zygotes():
        if "python" in processes.text(zygote, "cmdline"):  # kept warm, for half a minute
            processes.send(zygote, world.pid, signal.SIGKILL)
    eventually(is_quiet, "two zygotes with workers", DEADLINE)
    with world.session() as session:
        eventually(lambda: next(row["value"] for row in session.ask("stats")["counters"] if row["name"] == "sessions_open") == 1,
                   "one session", DEADLINE)
        # Once everything is open that a session of this kind opens.
        store = Store(session)
        store.open("lock", "chaos.lock")
        store.open("lock", "chaos.lock", group=grp.getgrgid(os.getgid()).gr_name)
        session.ask("ping")  # what it answered with is sent and closed
        kinds = {"the daemon": (processes.descriptors(world.pid), processes.shared_mappings(world.pid))}
        for zygote in world.zygotes():
            name = "a zygote, " + processes.text(zygote, "cmdline").replace("\0", " ").strip()
            kinds[name] = (processes.descriptors(zygote), processes.shared_mappings(zygote))
    return kinds


def stable(world):
    """What is held, once it does not change any more: sessions that just ended are still being cleaned up."""
    last, deadline = None, time.monotonic() + DEADLINE
    while True:
        now = held(world)
        if now == last or time.monotonic() > deadline:
            return now
        last = now
        time.sleep(0.1)


def compared_with_a_fresh_one(world):
    """After all that, the daemon holds what one holds that was just started on the same directory."""
    try:
        after = stable(world)
        _stop(world)
        world.start()
        fresh = stable(world)
        _stop(world)
    except AssertionError as error:
        return [f"{error}\n{world.log()[-3000:]}"]
    wrong = []
    for name in after.keys() | fresh.keys():
        for what, old, new in zip(("descriptors", "mappings"), after.get(name, ({}, {})), fresh.get(name, ({}, {}))):
            if old != new:
                wrong.append(f"{name} has {what} that a fresh one has not: {dict(old - new)}, and lacks {dict(new - old)}")
    return wrong


def _stop(world):
    world.process.terminate()
    try:
        code = world.process.wait(30)
    except Exception:
        raise AssertionError("the daemon does not stop") from None
    if code != 0:
        raise AssertionError(f"the daemon ended with {code}")


def left_behind(world):
    """Processes and files of the run, after its daemon has ended."""
    wrong = []

    def others():
        return [pid for pid in processes.with_environment("CHAOS_RUN", world.mark) if pid != os.getpid()]

    try:
        eventually(lambda: not others(), "no process is left", 10)
    except AssertionError:
        wrong += [f"a process is left: {pid} {processes.about(pid)}" for pid in others()]
    for name in sorted(os.listdir(world.directory)):
        if name not in FILES and not name.endswith((".journal", ".log")):
            wrong.append(f"a file is left: {name}")
    return wrong
