"""A child changes a dict and a list of its parent's."""

from taskpool import Manager, Process


def change(settings, numbers):
    settings["name"] = "shared"
    settings[2] = [1, 2]
    settings[0.25] = None
    numbers.reverse()


if __name__ == "__main__":
    with Manager() as manager:
        settings = manager.dict()
        numbers = manager.list(range(5, 10))
        child = Process(target=change, args=(settings, numbers))
        child.start()
        child.join()
        print(settings)
        print(numbers)
