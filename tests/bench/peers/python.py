"""One measure of the Python package, or of multiprocessing: `python.py MODULE MEASURE` prints one JSON number."""

import importlib
import json
import os
import sys
import time

if sys.argv[2] == "get_plain":  # without the package's extensions
    sys.modules["taskpool._native"] = sys.modules["taskpool._segment"] = None
module = importlib.import_module(sys.argv[1])


def square(x):
    return x * x


def nothing(_):
    return None


def echo(argument):
    return argument


def rest(_):
    time.sleep(0.01)
    return os.getpid()


def put_all(queue, count):
    for i in range(count):
        queue.put(i)


def seconds(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def median(values):
    return sorted(values)[len(values) // 2]


def start_pool(processes):
    """Milliseconds to a first result; the daemon runs, and its interpreter is warm."""
    def once():
        pool = module.Pool(processes)
        pool.apply(square, (2,))
        pools.append(pool)

    pools = []
    once()
    taken = median([seconds(once) for _ in range(5)]) * 1e3
    for pool in pools:
        pool.terminate()
        pool.join()
    return taken


def apply():
    with module.Pool(2) as pool:
        for _ in range(200):
            pool.apply(nothing, (1,))
        return median([seconds(lambda: pool.apply(nothing, (1,))) for _ in range(3000)]) * 1e6


def apply_async():
    with module.Pool(2) as pool:
        pool.map(square, range(100))
        return 20_000 / seconds(lambda: [r.get() for r in [pool.apply_async(square, (i,)) for i in range(20_000)]])


def map_chunk(count, chunksize):
    inputs = list(range(count))
    with module.Pool(2) as pool:
        pool.map(square, range(1000))
        return count / median([seconds(lambda: pool.map(square, inputs, chunksize)) for _ in range(3)])


def payload(size):
    argument = bytes(size)
    with module.Pool(2) as pool:
        pool.apply(echo, (argument,))
        rounds = max(2, min(50, (200 << 20) // size))
        return size / median([seconds(lambda: pool.apply(echo, (argument,))) for _ in range(rounds)])


def managed(measure):
    with module.Manager() as manager:
        shared = manager.dict({i: i for i in range(1000)})
        lock, queue = manager.Lock(), manager.Queue()

        def locked():
            lock.acquire()
            lock.release()

        fifty = {f"key {i}": i for i in range(50)}
        calls = {"get": lambda: shared[7], "set": lambda: shared.__setitem__(7, 8), "update": lambda: shared.update(fifty),
                 "lock": locked, "put": lambda: queue.put(1)}
        measure = measure.removesuffix("_plain")
        items = 50 if measure == "update" else 1
        for _ in range(100):
            calls[measure]()
        count = 2000
        return items * count / seconds(lambda: [calls[measure]() for _ in range(count)])


def set_often(shared, barrier, done, count):
    for i in range(100):
        shared[i] = i
    barrier.wait()
    for i in range(count):
        shared[7] = i
    done.put(None)


def set_from_4():
    """Entries that four processes together set a second."""
    count = 2000
    with module.Manager() as manager:
        shared, barrier, done = manager.dict(), module.Barrier(5), module.Queue()
        processes = [module.Process(target=set_often, args=(shared, barrier, done, count)) for _ in range(4)]
        for process in processes:
            process.start()
        barrier.wait()
        taken = seconds(lambda: [done.get() for _ in processes])
        for process in processes:
            process.join()
        return 4 * count / taken


def lock():
    """Nanoseconds to acquire and release the module's own lock."""
    one = module.Lock()

    def often():
        for _ in range(100_000):
            one.acquire()
            one.release()

    return median([seconds(often) for _ in range(5)]) * 1e4


def value():
    """Increments per second of a Value under its lock."""
    counter = module.Value("i", 0)

    def often():
        for _ in range(50_000):
            with counter.get_lock():
                counter.value += 1

    return 50_000 / median([seconds(often) for _ in range(3)])


def queue():
    """Items per second from one process to another."""
    items = module.Queue()
    count = 50_000
    producer = module.Process(target=put_all, args=(items, count))
    producer.start()
    items.get()
    taken = seconds(lambda: [items.get() for _ in range(count - 1)])
    producer.join()
    return count / taken


def worker_pss():
    """Bytes of an idle worker, its share of what is shared counted in."""
    with module.Pool(2) as pool:
        pids = set()
        while len(pids) < 2:  # both are there, and idle again
            pids |= set(pool.map(rest, range(8), 1))
        pid = min(pids)
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


MEASURES = {"pool_2": lambda: start_pool(2), "pool_64": lambda: start_pool(64), "apply": apply, "apply_async": apply_async,
            "map_single": lambda: map_chunk(100_000, 1), "map": lambda: map_chunk(1_000_000, None),
            "payload_1m": lambda: payload(1 << 20), "payload_100m": lambda: payload(100 << 20),
            "get": lambda: managed("get"), "get_plain": lambda: managed("get_plain"), "set": lambda: managed("set"),
            "set_from_4": set_from_4, "update": lambda: managed("update"), "managed_lock": lambda: managed("lock"),
            "managed_put": lambda: managed("put"), "lock": lock, "value": value, "queue": queue, "worker_pss": worker_pss}


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[2]]()))
