"""A counter that several processes raise under a lock."""

from taskpool import Lock, Process, Value


def raise_counter(lock, counter, times):
    for _ in range(times):
        with lock:
            seen = counter.value
            counter.value = seen + 1


if __name__ == "__main__":
    lock = Lock()
    counter = Value("i", 0, lock=False)
    processes = [Process(target=raise_counter, args=(lock, counter, 500)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(counter.value)
