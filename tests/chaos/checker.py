"""Judges what happened: every call has one outcome, each is right and one that its times allow, effects were not doubled,
and nothing is left. Knows nothing of processes or sockets: from a History to a list of what is wrong with it."""

import collections
import dataclasses


@dataclasses.dataclass
class Interval:
    begin: float
    end: float


@dataclasses.dataclass
class Client:
    """One process that made calls. `ended`: "itself", "killed" by the test, "hung", or "died" though nobody killed it."""

    number: int
    language: str
    ended: str = "itself"
    detail: str = ""


@dataclasses.dataclass
class Fault(Interval):
    kind: str = ""


@dataclasses.dataclass
class History:
    clients: list = dataclasses.field(default_factory=list)
    #: Of each client by its number: the lines of its journal.
    journals: dict = dataclasses.field(default_factory=dict)
    faults: list = dataclasses.field(default_factory=list)
    #: (life, id) of each run of a task that notes its runs.
    effects: list = dataclasses.field(default_factory=list)
    #: What the shared objects held at the end: counters, list, queue, guarded.
    store: dict = dataclasses.field(default_factory=dict)
    #: Of detached calls that nobody had fetched: {task: {"code": ..., "wrong": [...]}}.
    fetched: dict = dataclasses.field(default_factory=dict)
    #: Of keyed calls of clients that were killed, submitted again at the end: {call: {"code": ..., "wrong": [...]}}.
    joined: dict = dataclasses.field(default_factory=dict)
    #: What was found at the end that should not be there, in words.
    leftovers: list = dataclasses.field(default_factory=list)


DAEMON_ENDS = {"kill_daemon", "stop_daemon"}
STARVED = {"starve_daemon", "starve_zygote"}
KILLS = {"kill_worker", "kill_zygote"} | DAEMON_ENDS
#: Nothing of such a call ran.
NOTHING_RAN = {"queue_full", "daemon_gone", "no_daemon", "draining", "pool_closed", "start_failed", "spawn_failed", "limit_reached",
               "not_pulled"}
#: Seconds that what a fault brought may come late: back-off of starts, a reconnection, a machine that is busy.
AFTERWARDS = 12.0
LIBRARIES_THAT_RESEND = {"c++", "cli"}

#: Which fault an outcome needs. What is not here is never right, but for the code that the call itself asks for.
NEEDS = {
    "worker_lost": KILLS,
    "queue_full": {"fill_queue"},
    "outcome_unknown": DAEMON_ENDS,
    "daemon_gone": DAEMON_ENDS,
    "no_daemon": DAEMON_ENDS | {"crowd", "starve_daemon"},
    "draining": {"stop_daemon"},
    "cancelled": {"stop_daemon"},
    "pool_closed": DAEMON_ENDS | {"kill_zygote"},
    "start_failed": STARVED | {"kill_zygote", "kill_worker"} | DAEMON_ENDS,
    "spawn_failed": STARVED | {"kill_zygote"} | DAEMON_ENDS,
    "limit_reached": {"crowd"} | STARVED,
    "out_of_space": STARVED,
    "system": STARVED,
    "unknown_task": DAEMON_ENDS,
}
#: A session's own pool ends when its workers do not start, and its calls with it.
NEEDS_OF_PYTHON = {**NEEDS, "cancelled": NEEDS["start_failed"]}


@dataclasses.dataclass
class Call:
    begin: dict
    ends: list
    client: Client

    @property
    def name(self):
        return f"{self.client.language} client {self.client.number}, {self.begin['kind']} {self.begin['call']}"

    @property
    def last(self):
        return self.ends[-1]["t"] if self.ends else float("inf")

    @property
    def code(self):
        return self.ends[0]["code"] if self.ends else None


class Checker:
    def __init__(self, history):
        self.history = history
        self.wrong = []
        self.clients = {client.number: client for client in history.clients}
        self.calls = {}
        self.runs = collections.Counter(number for _, number in history.effects)
        self.runs_in_life = collections.Counter(history.effects)

    def check(self):
        self.read()
        for call in self.calls.values():
            self.check_outcome(call)
            self.check_effects(call)
        self.check_detached()
        self.check_store()
        for client in self.history.clients:
            if client.ended in ("hung", "died"):
                self.wrong.append(f"{client.language} client {client.number} {client.ended}: {client.detail}")
        self.wrong += self.history.leftovers
        return self.wrong

    def read(self):
        for number, lines in self.history.journals.items():
            client = self.clients[number]
            for line in lines:
                if line["e"] == "begin":
                    self.calls[line["call"]] = Call(line, [], client)
                elif line["e"] == "end":
                    if line["call"] not in self.calls:
                        self.wrong.append(f"{client.language} client {number}: an outcome of no call: {line}")
                    else:
                        self.calls[line["call"]].ends.append(line)
                elif line["e"] == "violation":
                    self.wrong.append(f"{client.language} client {number}: {line['what']}")
                elif line["e"] == "broken" and client.language == "wire" and not self.had(DAEMON_ENDS, line["t"], line["t"]):
                    self.wrong.append(f"wire client {number}: its connection broke at {line['t']:.3f}, and the daemon lived")

    def had(self, kinds, begin, end):
        return any(fault.kind in kinds and fault.begin <= end and fault.end + AFTERWARDS >= begin for fault in self.history.faults)

    # Outcomes

    def check_outcome(self, call):
        if len(call.ends) > 1:
            self.wrong.append(f"{call.name}: {len(call.ends)} outcomes: {call.ends}")
        if not call.ends:
            if call.client.ended != "killed":
                self.wrong.append(f"{call.name}: no outcome: {call.begin}")
            return
        end = call.ends[0]
        if end.get("wrong"):
            self.wrong.append(f"{call.name}: wrong result: {end}")
        self.check_code(call, end["code"], end)
        items = call.begin.get("items")
        if items is not None and end["code"] == "ok":
            if "job" in end:
                self.check_code(call, end["job"], end)
            if end["outcomes"] != items and not ("job" in end and end["outcomes"] < items):
                self.wrong.append(f"{call.name}: {end['outcomes']} outcomes of {items} items: {end}")
            for code in end["failed"]:
                self.check_code(call, code, end)

    def check_code(self, call, code, end):
        if code == "ok":
            if call.begin.get("ends"):
                self.wrong.append(f"{call.name}: ok, but it was to end {call.begin['ends']}")
            return
        if code == call.begin.get("ends") or (call.begin["kind"], code) in (
                ("get", "empty"), ("get", "exit 1"), ("put", "full"), ("put", "exit 1"), ("put", "timed_out"), ("get", "timed_out"),
                ("section", "not_held"), ("lock", "exit 1")):
            return
        if call.begin.get("inner") and code == "task_failed":  # what its own session or call said is in the detail
            said = [inner for inner in NEEDS if inner in end.get("detail", "")]
            if any(self.had(NEEDS[inner], call.begin["t"], end["t"]) for inner in said):
                return
        if code == "task_failed" and "spawn: pipe: Too many open files" in end.get("detail", "") and self.had(STARVED, call.begin["t"], end["t"]):
            return  # a worker of a starved zygote that could not start its program
        if call.client.language == "cli" and code.startswith("exit "):
            self.wrong.append(f"{call.name}: it failed without an error: {end}")
            return
        needs = NEEDS_OF_PYTHON if call.client.language == "python" else NEEDS
        if code not in needs or not self.had(needs[code], call.begin["t"], end["t"]):
            self.wrong.append(f"{call.name}: {code} cannot be: {end}")
        elif code == "outcome_unknown" and call.begin.get("key") and "effects" in call.begin and call.client.language in LIBRARIES_THAT_RESEND \
                and not self.had({"crowd"}, call.begin["t"], end["t"]) \
                and "sent again, it was refused: draining" not in end.get("detail", ""):  # a client that is refused cannot ask again
            self.wrong.append(f"{call.name}: outcome_unknown of a call with an idempotency key: {end}")

    # Effects

    def check_effects(self, call):
        if "effects" not in call.begin:
            return
        first, count = call.begin["effects"]
        end = call.ends[0] if call.ends else {"code": "none"}
        codes = {first + index: code for code, indices in end.get("failed", {}).items() for index in indices}
        for number in range(first, first + count):
            code = codes.get(number, end["code"])
            if "job" in end and number - first >= end["outcomes"]:
                code = "not_pulled"
            runs = self.runs[number]
            if code == "ok" and runs == 0 and not call.begin.get("detached"):
                self.wrong.append(f"{call.name}: {number} has a result, and never ran")
            if code in NOTHING_RAN and runs:
                self.wrong.append(f"{call.name}: {number} ran {runs} times, and its outcome is {code}")
            if call.begin.get("repeats"):
                continue
            if call.begin.get("key"):
                twice = [life for (life, ran), times in self.runs_in_life.items() if ran == number and times > 1] if runs > 1 else []
                if twice:
                    self.wrong.append(f"{call.name}: {number} ran twice in life {twice}, and has a key")
            elif runs > 1:
                self.wrong.append(f"{call.name}: {number} ran {runs} times")

    # Detached calls

    def check_detached(self):
        fetches = collections.defaultdict(list)
        for call in self.calls.values():
            if call.begin["kind"] == "fetch":
                fetches[call.begin["task"]].append(call)
        for call in self.calls.values():
            if not call.begin.get("detached") or call.code != "ok":
                continue
            task = call.ends[0]["task"]
            number = call.begin["effects"][0]
            taken = [fetch for fetch in fetches[task] if fetch.code == "ok"]
            found = self.history.fetched.get(task)
            if len(taken) + (found is not None and found["code"] == "ok") > 1:
                self.wrong.append(f"{call.name}: task {task} was fetched twice")
            if taken or not fetches[task] and found is None:
                if not taken:
                    self.wrong.append(f"{call.name}: nobody asked for task {task}")
                continue
            if found is None:
                continue  # a fetch failed, and what it said has been judged; or its client was killed within it
            if found.get("wrong"):
                self.wrong.append(f"{call.name}: wrong result of task {task}: {found}")
            elif found["code"] == "unknown_task":
                if not fetches[task] and not self.had(DAEMON_ENDS, call.ends[0]["t"], float("inf")):
                    self.wrong.append(f"{call.name}: task {task} is gone, and the daemon lived")
            elif found["code"] == "ok":
                if not self.runs[number]:
                    self.wrong.append(f"{call.name}: task {task} has a result, and never ran")
            else:
                self.check_code(call, found["code"], {"t": float("inf"), **found})
        for call, found in self.history.joined.items():
            if found.get("wrong"):
                self.wrong.append(f"{self.calls[call].name}: wrong result when it was submitted again: {found}")

    # Shared objects

    def of_kind(self, kind):
        return [call for call in self.calls.values() if call.begin["kind"] == kind]

    @staticmethod
    def is_unknown(call):
        """It may or may not have been done."""
        return call.code in (None, "outcome_unknown", "daemon_gone", "no_daemon") or call.code.startswith("exit ")

    def check_store(self):
        store = self.history.store
        if not store:
            return
        self.check_counters(store["counters"])
        self.check_list(store["list"])
        self.check_queue(store["queue"])
        done = sum(call.code == "ok" for call in self.of_kind("section"))
        unknown = sum(self.is_unknown(call) for call in self.of_kind("section"))
        self.check_sum("the guarded value", store["guarded"], done, unknown)

    def check_sum(self, what, found, done, unknown):
        if not done <= found <= done + unknown:
            self.wrong.append(f"{what} is {found}: {done} additions were answered, {unknown} more may have been made")

    def check_counters(self, counters):
        by_key = collections.defaultdict(list)
        for call in self.of_kind("incr"):
            by_key[call.begin["key"]].append(call)
        for key, calls in by_key.items():
            self.check_sum(f"counter {key}", counters.get(key, 0), sum(call.code == "ok" for call in calls),
                           sum(self.is_unknown(call) for call in calls))
        batches = self.of_kind("batch")
        if counters.get("pair.a", 0) != counters.get("pair.b", 0):
            self.wrong.append(f"half a batch: {counters.get('pair.a')} and {counters.get('pair.b')}")
        self.check_sum("pair.a", counters.get("pair.a", 0), sum(call.code == "ok" for call in batches),
                       sum(self.is_unknown(call) for call in batches))

    def check_list(self, tokens):
        times = collections.Counter(tokens)
        for call in self.of_kind("append"):
            found = times.pop(call.begin["token"], 0)
            if found > 1 or (found == 0 and call.code == "ok") or (found and call.code not in ("ok",) and not self.is_unknown(call)):
                self.wrong.append(f"{call.name}: {found} times in the list, and its outcome was {call.code}")
        if times:
            self.wrong.append(f"in the list, and nobody appended it: {list(times)[:5]}")

    def check_queue(self, left):
        puts = {call.begin["token"]: call for call in self.of_kind("put")}
        gets = self.of_kind("get")
        taken = collections.Counter(call.ends[0]["token"] for call in gets if call.code == "ok")
        for token, times in (taken + collections.Counter(left)).items():
            if times > 1:
                self.wrong.append(f"queue: {token} was there {times} times")
            if token not in puts:
                self.wrong.append(f"queue: {token} was taken or left, and nobody put it")
            elif puts[token].code not in ("ok",) and not self.is_unknown(puts[token]):
                self.wrong.append(f"{puts[token].name}: it is in the queue, and its outcome was {puts[token].code}")
        lost = [token for token, call in puts.items() if call.code == "ok" and token not in taken and token not in left]
        unknown = sum(self.is_unknown(call) for call in gets)
        if len(lost) > unknown:
            self.wrong.append(f"queue: {len(lost)} items are lost, {unknown} gets may have taken some: {lost[:5]}")
        self.check_order(gets)

    def check_order(self, gets):
        """First in, first out: one taker sees the items of one thread in their order."""
        for taker, calls in _grouped(gets, lambda call: call.client.number).items():
            last = {}
            for call in sorted((call for call in calls if call.code == "ok"), key=lambda call: call.begin["t"]):
                token = call.ends[0]["token"]
                if token <= last.get(token >> 40, 0):
                    self.wrong.append(f"queue: client {taker} got {token} after {last[token >> 40]}")
                last[token >> 40] = token


def _grouped(items, key):
    groups = collections.defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def check(history):
    """What is wrong with it, in words, worst things first come first."""
    return Checker(history).check()
