"""multiprocessing.Pool of two processes beside taskpool's figures: prints one JSON object."""

import json
import multiprocessing
import sys
import time


def square(x):
    return x * x


def length(argument):
    return len(argument)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def measure_apply(pool, count):
    for i in range(count // 10):
        pool.apply(square, (i,))
    times = []
    for i in range(count):
        begun = time.perf_counter()
        pool.apply(square, (i,))
        times.append((time.perf_counter() - begun) * 1e6)
    return {"p50_us": percentile(times, 0.5), "p99_us": percentile(times, 0.99)}


def measure_apply_async(pool, count):
    begun = time.perf_counter()
    results = [pool.apply_async(square, (i,)) for i in range(count)]
    for result in results:
        result.get()
    return {"per_second": count / (time.perf_counter() - begun)}


def measure_map(pool, count):
    inputs = list(range(count))
    pool.map(square, range(1000))
    begun = time.perf_counter()
    results = pool.map(square, inputs)
    seconds = time.perf_counter() - begun
    assert results[-1] == (count - 1) ** 2
    return {"per_second": count / seconds}


def measure_argument(pool, size):
    argument = bytes(size)
    pool.apply(length, (argument,))
    times = []
    for _ in range(max(3, min(100, (200 << 20) // size))):
        begun = time.perf_counter()
        assert pool.apply(length, (argument,)) == size
        times.append(time.perf_counter() - begun)
    return {"per_second": size / percentile(times, 0.5)}


def main():
    measures = {"apply": measure_apply, "apply_async": measure_apply_async, "map": measure_map, "argument": measure_argument}
    name, count = sys.argv[1], int(sys.argv[2])
    with multiprocessing.Pool(2) as pool:
        print(json.dumps(measures[name](pool, count)))


if __name__ == "__main__":
    main()
