#!/usr/bin/env python3
"""Checks who includes whom: the folders of the tree, and the directions in which they may depend on each other."""

import pathlib
import re
import sys

# Folder: the folders that it may include, besides itself. The longest matching folder counts.
ALLOWED = {
    "proto": [],
    "daemon": ["proto", "daemon"],
    "daemon/os": ["proto/result.hpp"],
    "daemon/queue": ["proto"],
    "daemon/wire": ["proto", "daemon/os", "daemon/time_slice.hpp"],
    "daemon/store": ["proto", "daemon/os", "daemon/config.hpp", "daemon/log.hpp", "daemon/metrics.hpp",
                     "daemon/time_slice.hpp"],
    "daemon/pool": ["proto", "daemon/os", "daemon/queue", "daemon/wire", "daemon/config.hpp", "daemon/log.hpp",
                    "daemon/metrics.hpp"],
    "daemon/server": ["proto", "daemon"],
    "daemon/runtime": ["proto", "daemon/os"],
    "client/cpp": ["proto", "taskpool"],
    "client/cli": ["proto", "client/cpp", "taskpool"],
    "client/modules": ["proto", "taskpool"],
    "client/python": ["proto/store/reader.hpp"],
    "tests": ["proto", "daemon", "client", "taskpool"],
}
OURS = ("proto/", "daemon/", "client/", "tests/", "taskpool/")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')


def folder_of(path: str) -> str:
    return max((f for f in ALLOWED if path == f or path.startswith(f + "/")), key=len, default="")


def is_within(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    errors = []
    checked = 0
    for source in sorted(root.glob("*/**/*")):
        path = source.relative_to(root).as_posix()
        if source.suffix not in (".hpp", ".h", ".cpp") or path.startswith("build/"):
            continue
        folder = folder_of(path)
        if not folder:
            errors.append(f"{path}: no rule for its folder in tests/layering_test.py")
            continue
        checked += 1
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            if not found or not found[1].startswith(OURS):
                continue
            if not is_within(found[1], [folder, *ALLOWED[folder]]):
                errors.append(f"{path}:{number}: {folder} must not include {found[1]}")
    for error in errors:
        print(error)
    print(f"{checked} files, {len(errors)} errors")
    return 1 if errors or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
