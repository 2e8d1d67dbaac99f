#!/usr/bin/env python3
"""Both readers of the store's segments, the extension and the one in Python, read what is there, and survive what should not be."""

import sys
import unittest

from support import DEADLINE, PACKAGE, Daemons

sys.path.insert(0, PACKAGE)

READERS = '''\
import contextlib, mmap, os, random, sys, time
import taskpool
from taskpool import _segment, mapping, segment, store
segment.setup(lambda encoding, data, writer: store.decode_value(encoding, data, mapping.is_trusted(writer)), store.encode_key,
              lambda data, writer: store.decode_key(data, mapping.is_trusted(writer)))

kept = {}
def memory_of(proxy):
    """The segment's mapping, and where the proxy's object is in it."""
    opened = proxy._opened
    for made in kept[os.getpid()]:
        with contextlib.suppress(_segment.AskDaemon):
            place = opened.about["offset"], opened.about["id"]
            _segment.Segment(made).find(*place)
            return made, *place
def remember(fd, size, **more):
    made = plain_mmap(fd, size, **more)
    if fd != -1: kept.setdefault(os.getpid(), []).append(made)
    return made
plain_mmap, mapping.mmap.mmap = mmap.mmap, remember
def both(proxy):
    memory, offset, number = memory_of(proxy)
    return _segment.Segment(memory).find(offset, number), segment.Segment(memory).find(offset, number)
def write(d, l, stop):
    step = 0
    while not stop.is_set():
        step += 1
        letter = chr(97 + step % 26)
        d.update({"a": letter * (step % 700), "b": step, "c": step})
        if step % 5 == 0: d["new %d" % step] = step
        if step % 5 == 4: d.pop("new %d" % (step - 4), None)
        l.append(step)
        if len(l) > 100: l.pop(0)
'''


class Readers(Daemons):
    def program(self, body, **more):
        return self.run_main(READERS, body, **more)

    def test_the_hash_is_that_of_the_protocol(self):
        from taskpool import segment

        for key, without, with_42 in ((b"\0", 0x735011484CA775FA, 0x28EB74E799C34AD2),
                                      (b"\x03name", 0x1EABF5614A33DF56, 0x036609997A39D573),
                                      (b"\x03a key of more than sixteen bytes", 0xABABAC7E404997E9, 0x077B86417A936BAA)):
            self.assertEqual((segment.hash_key(key, 0), segment.hash_key(key, 42)), (without, with_42))

    def test_both_read_the_same(self):
        self.assertEqual(self.program('''
manager = taskpool.Manager()
d = manager.dict()
keys = [None, 0, -1, 255, 256, 1 << 70, -(1 << 70), -(1 << 63), (1 << 64) - 1, 1.5, -2.5, float("inf"), "", "text", "é" * 200, b"", b"bytes", (), (1, "a", (None,)), frozenset((1,))]
values = [None, True, False, 1, -1, 1 << 70, 2.5, "", "text", 'a "quoted" \\\\\\\\ text', "é", b"", b"x" * 5000, (1, [2]), {"a": 1}, "y" * 100_000, bytearray(b"z"), [], 1e300, "\\ud800"]
for k, v in zip(keys, values): d[k] = v
expected = dict(zip(keys, values))
for reader in both(d):
    assert reader.items() == list(expected.items()), reader
    assert reader.keys() == keys and reader.values() == values and reader.length() == len(keys)
    for k, v in expected.items(): assert reader.get(k, 0) == v and type(reader.get(k, 0)) is type(v) and reader.contains(k), (reader, k)
    assert reader.get("absent", 17) == 17 and not reader.contains(2) and reader.get(True, 18) == 18 and reader.get(255.0, 0) == 1
    for wrong in ([], {}, [1]):
        try: reader.get(wrong, 0)
        except TypeError as error: assert "unhashable" in str(error)
        else: raise AssertionError
l = manager.list(range(5000))
l[17] = "text"
for reader in both(l):
    assert reader.values() == list(l) and reader.length() == 5000 and reader.item(-1) == 4999 and reader.item(17) == "text"
    assert reader.snapshot()[1] == list(l) and reader.item(-5000) == 0
    for index in (5000, -5001, 1 << 40):
        try: reader.item(index)
        except IndexError as error: assert str(error) == "list index out of range"
        else: raise AssertionError
for reader in both(manager.list()): assert reader.values() == [] and reader.length() == 0
for reader in both(manager.dict()): assert reader.items() == [] and reader.get(1, 2) == 2
for reader in both(manager.Value("d", 2.5)): assert reader.value() == 2.5
d.set("short", 1, ttl=0.001)
time.sleep(0.002)
for reader in both(d): assert reader.get("short", 0) == 0 and "short" not in reader.keys()
gone = both(l)
manager.delete(l)
for reader, module in zip(gone, (_segment, segment)):
    for call in (reader.length, reader.values, lambda: reader.item(0)):
        try: call()
        except module.AskDaemon as why: assert str(why) == "gone"
        else: raise AssertionError
print("read")
'''), ["read"])

    def test_beside_a_writer(self):
        """No value is torn, no batch is seen by half, and a list that moves is of one moment."""
        self.assertEqual(self.program('''
manager = taskpool.Manager()
d, l, stop = manager.dict(a="", b=0, c=0), manager.list([0]), taskpool.Event()
writer = taskpool.Process(target=write, args=(d, l, stop))
writer.start()
seen = [set(), set()]
end = time.monotonic() + 30
while min(map(len, seen)) < 50 and time.monotonic() < end:
    for which, (of_dict, of_list) in enumerate(zip(both(d), both(l))):
        for _ in range(50):
            try:
                a = of_dict.get("a", None)
                assert a == a[:1] * len(a), a
                whole = dict(of_dict.items())
                assert whole["b"] == whole["c"], whole
                numbers = of_list.values()
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
                seen[which].add(whole["b"])
            except (_segment.AskDaemon, segment.AskDaemon) as why:
                assert str(why) == "too_busy", why
stop.set()
writer.join()
print(writer.exitcode, [len(each) >= 50 for each in seen])
''', deadline=2 * DEADLINE), ["0 [True, True]"])

    def test_damage_is_survived(self):
        self.assertEqual(self.program('''
manager = taskpool.Manager()
d, l, v = manager.dict({i: "x" * i for i in range(50)}), manager.list(range(300)), manager.Value("i", 1)
whole, _, _ = memory_of(d)
used = memoryview(whole).cast("Q")[15]
copy = plain_mmap(-1, len(whole))
chance, asked, read = random.Random(7), 0, 0
places = [memory_of(each)[1:] for each in (d, l, v)]
interesting = [at for at in range(0, used, 8) if whole[at:at + 8] != bytes(8)]
for step in range(400):
    copy[:used] = whole[:used]
    for _ in range(chance.randrange(1, 8)):
        at = chance.choice(interesting) + chance.randrange(8)
        copy[at] = chance.randrange(256)
    for module in (_segment, segment):
        try: damaged = module.Segment(copy)
        except ValueError: continue
        for offset, number in places:
            try: reader = damaged.find(offset, number)
            except module.AskDaemon: continue
            for call in (reader.items, reader.keys, reader.snapshot, reader.length, reader.value, lambda: reader.item(-3), lambda: reader.item(7), lambda: reader.get(7, 0), lambda: reader.contains(8)):
                try:
                    call()
                    read += 1
                except module.AskDaemon: asked += 1
                except Exception: pass
    del damaged, reader
print(read > 1000, asked > 10)
for memory in (plain_mmap(-1, 4096), plain_mmap(-1, 1 << 20)):
    for module in (_segment, segment):
        try: module.Segment(memory)
        except ValueError as error: print(str(error)[:8])
''', deadline=3 * DEADLINE), ["True True"] + ["segment:"] * 4)


if __name__ == "__main__":
    unittest.main()
