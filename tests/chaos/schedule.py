"""What goes wrong when: a pure function of the seed, so that a run can be repeated."""

import collections
import random

#: `at` and `lasts` in seconds from the start; `pick` chooses the victim among those that there are, `detail` how.
Fault = collections.namedtuple("Fault", "at kind lasts pick detail")

#: How often each kind comes, and for how long at most.
KINDS = {
    "kill_worker": (10, 0), "pause_worker": (6, 1.5),
    "kill_zygote": (4, 0), "pause_zygote": (3, 1.5),
    "kill_client": (6, 0), "pause_client": (5, 2),
    "kill_daemon": (3, 0.5), "stop_daemon": (2, 0.2), "pause_daemon": (3, 1),
    "reload": (3, 0),
    "fill_queue": (2, 0), "fill_store": (2, 0), "break_frames": (6, 0), "crowd": (2, 0),
    "starve_daemon": (2, 1.5), "starve_zygote": (2, 1.5),
}
MEAN_PAUSE = 0.6


def schedule(seed, seconds):
    """The faults of a run, in order. All of them end within it."""
    luck = random.Random(seed)
    at, faults = 1.0, []
    names, weights = zip(*((name, weight) for name, (weight, _) in KINDS.items()))
    while True:
        at += min(luck.expovariate(1 / MEAN_PAUSE), 5)
        kind = luck.choices(names, weights)[0]
        lasts = round(luck.uniform(0.02, KINDS[kind][1] or 0.02), 3)
        if at + lasts > seconds:
            return faults
        faults.append(Fault(round(at, 3), kind, lasts, luck.randrange(1 << 16), luck.randrange(1 << 30)))
