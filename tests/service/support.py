"""What the tests of the installed service share. They need root, some programs and the network: where they cannot run they say SKIPPED
and why, and end with code 77; with TASKPOOL_CI set that is a failure."""

import glob
import os
import re
import shutil
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE = 60.0  # seconds; every wait ends


def skip(why, proven=False):
    """With TASKPOOL_CI set only what was proven to be absent here may be missing: the rest can be installed."""
    print("SKIPPED: " + why)
    sys.exit(1 if os.environ.get("TASKPOOL_CI") and not proven else 77)


def skip_unless_namespaces_work(why):
    """For a container that did not start: this machine either cannot make any, which is shown, or something is wrong."""
    made = run("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--mount-proc", "true", check=False)
    if made.returncode != 0:
        skip(f"no namespaces can be made here ({made.stderr.strip()}): {why}", proven=True)
    raise AssertionError(why)


def require(*programs):
    if os.geteuid() != 0:
        skip("not root", proven=True)
    for program in programs:
        if not shutil.which(program):
            skip(program + " is not installed: ./dev setup service")


def package(name):
    """The file of a Debian package: taskpool, libtaskpool-dev, python3-taskpool."""
    packages = sorted(glob.glob(os.path.join(REPOSITORY, f"build/package/{name}_*.deb")))
    if not packages:
        skip("there is no package: ./dev package")
    return packages[-1]


def depends(deb):
    """The packages that it needs, without ours."""
    wanted = run("dpkg-deb", "-f", deb, "Depends").stdout
    names = [re.match(r"\s*([\w.+-]+)", alternative.split("|")[-1])[1] for alternative in wanted.split(",")]
    return [name for name in names if name != "taskpool"]


def make_root(directory, packages):
    """A small Debian with these packages of its own."""
    made = run("mmdebstrap", "--variant=minbase", "--include=" + ",".join(packages), "bookworm", directory, check=False, timeout=600)
    if made.returncode != 0:
        skip("mmdebstrap: " + made.stderr[-300:])


def eventually(question, what):
    end = time.monotonic() + DEADLINE
    while not (answer := question()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE} s: {what}")
        time.sleep(0.05)
    return answer


def run(*command, check=True, timeout=DEADLINE, **options):
    """Runs a command to its end; what it printed is in the answer, and in the error if it failed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done
