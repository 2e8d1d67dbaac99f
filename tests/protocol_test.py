#!/usr/bin/env python3
"""PROTOCOL.md agrees with the code and the golden files: its op numbers, its error codes, and the frames that it shows."""

import json
import pathlib
import re
import unittest

PROTO = pathlib.Path(__file__).resolve().parents[1] / "proto"
TEXT = (PROTO / "PROTOCOL.md").read_text()
GOLDEN = {path.stem: json.loads(path.read_text()) for path in (PROTO / "golden" / "v1").glob("*.json")}
OP_OFFSET = 6  # in a frame's prefix


def frame(name):
    return bytes.fromhex(GOLDEN[name]["frame"])


def section(title):
    """The text of a section that begins with a `## ` line, up to the next one."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S).group(1)


class Protocol(unittest.TestCase):
    def test_the_table_of_ops_is_that_of_the_golden_files(self):
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \w>\w \|", section("3. Ops"), re.M)
        listed = {name: int(number) for number, name in rows}
        self.assertEqual(len(listed), len(rows))
        self.assertEqual(listed, {golden["op"]: frame(name)[OP_OFFSET] for name, golden in GOLDEN.items()})

    def test_every_op_is_described(self):
        described = set(re.findall(r"\*\*`(\w+)`\*\*", section("3. Ops")))
        ops = {golden["op"] for golden in GOLDEN.values()}
        self.assertEqual(ops - described, set())

    def test_the_table_of_errors_is_that_of_the_code(self):
        enumerators = re.search(r"enum class Errc[^{]*{(.*?)};", (PROTO / "errc.hpp").read_text(), re.S).group(1)
        codes = re.findall(r"^\s*(\w+)(?: = 0)?,", enumerators, re.M)
        self.assertEqual(codes[0], "ok")
        rows = re.findall(r"^\| `(\w+)` \|", section("4. Errors"), re.M)
        self.assertEqual(sorted(rows), sorted(codes[1:]))

    def test_the_table_of_the_stores_operations_is_that_of_the_code(self):
        code = (PROTO / "store_ops.hpp").read_text()
        numbers, number = {}, 0
        for entry in re.search(r"enum class Code[^{]*{(.*?)};", code, re.S).group(1).split(","):
            if not entry.strip():
                continue
            name, _, value = entry.strip().partition(" = ")
            number = int(value) if value else number + 1
            numbers[name] = number
        rows = re.findall(r'OperationInfo{Code::(\w+),\s+"(\w+)",\s+([^{}"]*),\s+Kind::(\w+),\s+"([^"]*)",\s+"([^"]*)"'
                          r"(,\s+true)?}", code)
        self.assertEqual(len(rows), code.count("OperationInfo{Code::"))
        coded = {(numbers[name], wire, kind + (", waits" if waits else ""), arguments, results)
                 for name, wire, _, kind, arguments, results, waits in rows}
        told = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]* \| ((?:read|write|control)[^|]*?) \| ([^|]*?) *\| ([^|]*?) *\|", TEXT, re.M)
        self.assertEqual({(int(number), *rest) for number, *rest in told}, coded)

    def test_the_frames_that_it_shows_are_the_golden_ones(self):
        shown = re.findall(r"^```golden (\w+)\n(.*?)^```$", TEXT, re.M | re.S)
        self.assertGreater(len(shown), 0)
        for name, dump in shown:
            with self.subTest(name):
                hexadecimal = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", dump, re.M)
                self.assertEqual(bytes.fromhex("".join(hexadecimal)), frame(name))


if __name__ == "__main__":
    unittest.main()
