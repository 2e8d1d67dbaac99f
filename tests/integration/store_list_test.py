#!/usr/bin/python3
"""Lists, values and arrays of the shared store."""

import struct
import unittest

from store_dict_test import StoreStory, f64, i64
from store import BYTES, I64, JSON, Int, Raw, Store, Value, argument, items_argument, operation


class Lists(StoreStory):
    def filled(self, values):
        made = self.store.open("list")
        made.op("list_extend", items_argument(values))
        return made

    def test_a_list_is_one(self):
        made = self.filled([1, "two", None])
        made.op("list_append", b"four")
        made.op("list_insert", Int(0), 0)
        made.op("list_insert", Int(-1), 3.5)
        self.assertEqual(made.all(), [0, 1, "two", None, 3.5, b"four"])
        self.assertEqual((made.op("len"), made.op("list_get", Int(2)), made.op("list_get", Int(-1))), (6, "two", b"four"))
        made.op("list_set", Int(-1), 4)
        self.assertEqual(made.op("list_pop", Int(-1)), 4)
        self.assertEqual(made.op("list_pop", Int(0)), 0)
        made.op("list_delete", Int(1))
        self.assertEqual(made.all(), [1, None, 3.5])
        made.op("list_reverse")
        self.assertEqual(made.all(), [3.5, None, 1])
        made.op("list_replace", items_argument([9, 8]))
        self.assertEqual(made.all(), [9, 8])
        made.op("clear")
        self.assertEqual(made.all(), [])

    def test_slices_are_cut_as_in_python(self):
        plain = list(range(10))
        made = self.filled(plain)
        for start, stop in ((2, 5), (-3, 99), (7, 3), (0, 0), (-99, 2), (99, 100)):
            page = self.store.run(operation("list_slice", made.target, Int(start), Int(stop)))[0]
            self.assertEqual(page[1:], plain[start:stop], (start, stop))
        made.op("list_set_slice", Int(2), Int(4), items_argument("abc"))
        plain[2:4] = "abc"
        self.assertEqual(made.all(), plain)
        made.op("list_delete_slice", Int(-4), Int(-1))
        del plain[-4:-1]
        self.assertEqual(made.all(), plain)
        made.op("list_insert", Int(99), "end")
        made.op("list_insert", Int(-99), "begin")
        self.assertEqual(made.all(), ["begin", *plain, "end"])

    def test_an_index_out_of_range_changes_nothing(self):
        made = self.filled([1, 2])
        before = made.stat()
        for index in (2, -3, 2**62, -2**63):
            self.refused("out_of_range", made.op, "list_get", Int(index))
            self.refused("out_of_range", made.op, "list_set", Int(index), 1)
            self.refused("out_of_range", made.op, "list_pop", Int(index))
            self.refused("out_of_range", made.op, "list_delete", Int(index))
        self.assertEqual(made.stat(), before)

    def test_a_long_list(self):
        made = self.store.open("list")
        count = 50_000
        for start in range(0, count, 1000):
            made.op("list_extend", items_argument(range(start, start + 1000)))
        self.assertEqual(made.op("len"), count)
        made.op("list_insert", Int(count // 2), "middle")
        self.assertEqual(made.op("list_get", Int(count // 2)), "middle")
        self.assertEqual(made.op("list_get", Int(count // 2 + 1)), count // 2)
        self.assertEqual(made.op("list_pop", Int(count // 2)), "middle")
        made.op("list_reverse")
        self.assertEqual(made.all(), list(range(count - 1, -1, -1)))
        made.op("list_delete_slice", Int(1), Int(-1))
        self.assertEqual(made.all(), [count - 1, 0])

    def test_sort_is_a_replace_of_what_did_not_change_meanwhile(self):
        made = self.filled([3, 1, 2])
        version = made.stat()["version"]
        self.store.run(operation("expect", made.target, Int(version)),
                       operation("list_replace", made.target, items_argument(sorted(made.all()))))
        self.assertEqual(made.all(), [1, 2, 3])
        self.refused("changed", self.store.run, operation("expect", made.target, Int(version)),
                     operation("list_replace", made.target, items_argument([])))
        self.assertEqual(made.all(), [1, 2, 3])

    def test_items_through_the_arena(self):
        made = self.store.open("list")
        packed = b"".join(argument(BYTES, bytes([n]) * 50_000) for n in range(10))
        segment = self.store.session.open_arena(len(packed) + 64)
        self.store.session.up[segment][64:64 + len(packed)] = packed
        place = struct.pack("<QQQ", segment, 64, len(packed))
        made.op("list_extend", Raw(argument(34 | 0x80, place)))
        self.assertEqual(made.all(), [bytes([n]) * 50_000 for n in range(10)])
        self.store.session.up[segment][64 + 4] = 77  # an unknown encoding
        self.refused("bad_message", made.op, "list_extend", Raw(argument(34 | 0x80, place)))
        self.refused("bad_message", made.op, "list_extend", Raw(argument(34, argument(32, b"\x00"))))
        self.assertEqual(made.op("len"), 10)


class Values(StoreStory):
    def test_a_value(self):
        made = self.store.open("value", body=b"7", encoding=JSON)
        self.assertEqual(made.op("value_get"), 7)
        self.assertEqual(made.op("value_incr", 3), 10)
        made.op("value_compare_and_set", 10, 11)
        self.refused("changed", made.op, "value_compare_and_set", 10, 12)
        made.op("value_set", "text")
        self.refused("wrong_type", made.op, "value_incr", 1)
        self.assertEqual(made.op("value_get"), "text")
        self.assertIsNone(self.store.open("value").op("value_get"))
        self.refused("bad_message", self.store.open, "dict", body=b"7", encoding=JSON)

    def test_the_sum_is_exact_however_many_add(self):
        made = self.store.open("value", "sum", body=b"0", encoding=JSON)
        others = [Store(self.session()).open("value", "sum") for _ in range(4)]
        requests = [[other.begin("value_incr", 1) for _ in range(250)] for other in others]
        for other, started in zip(others, requests):
            for request in started:
                other.end(request)
        self.assertEqual(made.op("value_get"), 1000)


class Arrays(StoreStory):
    FORMATS = {"i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f32": "f", "f64": "d"}
    CODES = {name: 16 + index for index, name in enumerate("i8 i16 i32 i64 u8 u16 u32 u64 f32 f64".split())}

    def numbers(self, typecode, *values):
        return Raw(argument(self.CODES[typecode], struct.pack(f"<{len(values)}{self.FORMATS[typecode]}", *values)))

    def read(self, made, typecode, start=0, stop=2**62):
        result = self.store.session
        request = made.begin("array_slice", Int(start), Int(stop))
        reply = result.receive("store_reply", "error", request=request)
        ((_, data),) = self.store.parse(1, reply.body)[0]
        return list(struct.unpack(f"<{len(data) // struct.calcsize(self.FORMATS[typecode])}{self.FORMATS[typecode]}", data))

    def test_every_element_type(self):
        for typecode in self.FORMATS:
            made = self.store.open("array", typecode=typecode, length=5)
            self.assertEqual((made.about["typecode"], made.about["length"]), (typecode, 5))
            low = 0 if typecode[0] == "u" else -3
            made.op("array_set_slice", Int(1), self.numbers(typecode, low, 2, 100))
            made.op("array_set", Int(-1), self.numbers(typecode, 9))
            self.assertEqual(self.read(made, typecode), [0, low, 2, 100, 9], typecode)
            made.op("array_incr", Int(2), self.numbers(typecode, 5))
            made.op("array_compare_and_set", Int(3), self.numbers(typecode, 100), self.numbers(typecode, 50))
            self.assertEqual(self.read(made, typecode, 2, 4), [7, 50], typecode)
            self.refused("changed", made.op, "array_compare_and_set", Int(3), self.numbers(typecode, 100), self.numbers(typecode, 1))

    def test_what_an_array_refuses(self):
        made = self.store.open("array", typecode="i8", length=3)
        made.op("array_set", Int(0), self.numbers("i8", 127))
        self.refused("out_of_range", made.op, "array_incr", Int(0), self.numbers("i8", 1))
        self.refused("out_of_range", made.op, "array_set", Int(3), self.numbers("i8", 1))
        self.refused("out_of_range", made.op, "array_get", Int(-4))
        self.refused("out_of_range", made.op, "array_set_slice", Int(1), self.numbers("i8", 1, 2, 3))
        self.refused("wrong_type", made.op, "array_set", Int(0), self.numbers("i16", 1))
        self.refused("wrong_type", made.op, "array_set", Int(0), self.numbers("i8", 1, 2))
        self.assertEqual(self.read(made, "i8"), [127, 0, 0])
        self.refused("bad_argument", self.store.open, "array", length=3)
        self.refused("bad_argument", self.store.open, "array", typecode="i8")
        self.refused("bad_argument", self.store.open, "array", typecode="i8", length=2**30)


if __name__ == "__main__":
    unittest.main()
