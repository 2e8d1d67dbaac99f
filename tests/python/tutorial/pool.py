"""A pool of workers squares numbers."""

from taskpool import Pool


def square(x):
    return x * x


if __name__ == "__main__":
    pool = Pool(processes=2)
    print(pool.map(square, range(8)))
    print(pool.map_async(square, range(8)).get(timeout=30))
    pool.close()
    pool.join()
