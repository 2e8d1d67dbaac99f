"""Clients of other users: only root can make them."""

import json
import os

from wire import Failed


def as_user(call, uid, gid=None, groups=()):
    """What `call` returns in a child process of that user and of those groups, as JSON carries it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(list(groups))
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            answer = {"answer": call()}
        except BaseException as error:  # pylint: disable=broad-except
            answer = {"raised": repr(error)}
        with os.fdopen(writer, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"raised": "the child died"}
    if "raised" in answer:
        raise AssertionError(answer["raised"])
    return answer["answer"]


def session_of(daemon, uid, gid=None, groups=()):
    """A session of that user and of those groups: the kernel names them for who they were when they connected."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        return daemon.session()
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def code_of(call, *arguments, **options):
    """The code of the error that a request gets, or "" if it gets none."""
    try:
        call(*arguments, **options)
    except Failed as error:
        return error.code
    return ""


def detail_of(call, *arguments, **options):
    """The code and the detail of the error that a request gets."""
    try:
        call(*arguments, **options)
    except Failed as error:
        return f"{error.code}: {error.detail}"
    return ""
