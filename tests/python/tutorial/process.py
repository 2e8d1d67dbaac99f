"""A process with a name of its own says who it is."""

import os

import taskpool as multiprocessing


def introduce(title):
    me = multiprocessing.current_process()
    print(title)
    print("name:", me.name)
    print("is the parent:", os.getpid() == me.ident and multiprocessing.parent_process() is None)
    print("pid:", os.getpid())


if __name__ == "__main__":
    introduce("parent")
    child = multiprocessing.Process(target=introduce, args=("child",), name="worker bee")
    child.start()
    child.join()
    print("child's pid:", child.pid)
    print("exit code:", child.exitcode)
