#!/usr/bin/python3
"""The Debian packages keep the rules of Debian's policy, as far as lintian knows them."""

import shutil

from support import package, run, skip


def main():
    if not shutil.which("lintian"):
        skip("lintian is not installed: ./dev setup service")
    packages = [package(name) for name in ("taskpool", "libtaskpool-dev", "python3-taskpool")]
    checked = run("lintian", "--allow-root", "--fail-on", "error", *packages, check=False, timeout=300)
    print(checked.stdout + checked.stderr)
    assert checked.returncode == 0, "lintian found errors"


if __name__ == "__main__":
    main()
