"""What is free goes back to the system: run apart, for it says how a whole process takes memory."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from app.engine.allocator import GIVE_BACK_EVERY_SECONDS, FreeMemory, map_large_blocks

glibc = pytest.mark.skipif(not map_large_blocks(), reason="another C library than glibc")

_LARGE_BESIDE_SMALL = """
from app.engine.allocator import give_back, map_large_blocks
from app.engine.held_memory import resident_bytes
{prepare}
kept, before = [], resident_bytes()
for _ in range(300):
    large = bytearray(300_000)
    kept.append(bytes(700))  # above what Python keeps in pools of its own
    large = None
many = [bytes(5_000) for _ in range(10_000)]
full = resident_bytes()
kept += many[::50]
del many
{free}
print(full - before, resident_bytes() - before)
"""


def resident(prepare: str = "", free: str = "") -> tuple[int, int]:
    code = _LARGE_BESIDE_SMALL.format(prepare=prepare, free=free)
    full, left = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return int(full), int(left)


@glibc
def test_what_lies_free_between_what_is_kept_is_given_back():
    full, left = resident()
    assert full > 45_000_000
    assert left > 0.9 * full, "glibc keeps it by itself"
    full, left = resident(free="assert give_back()")
    assert left < 0.2 * full
    assert not subprocess.run([sys.executable, "-c", "import app.engine.allocator as a; a._call('no_such_function', 1)"]).returncode


@glibc
def test_large_blocks_are_mapped_by_themselves():
    """After the first one is freed, glibc would take the next ones from its heap."""
    look = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
from app.engine.allocator import map_large_blocks
{prepare}
info = ctypes.CDLL(None).mallinfo2
info.restype = Info
large = bytearray(900_000)
large = None
before = info().hblks
kept = [bytearray(200_000) for _ in range(10)]
print(info().hblks - before)
"""

    def mapped(prepare: str) -> int:
        return int(subprocess.run([sys.executable, "-c", look.format(prepare=prepare)], check=True, capture_output=True, text=True).stdout)

    assert mapped("") == 0
    assert mapped("assert map_large_blocks()") > 5, "but for those that fit into what is free already"


def test_it_is_given_back_when_nothing_waits_and_not_again_before_some_time_has_passed():
    now, given = [0.0], []
    memory = FreeMemory(lambda: given.append(now[0]) is None, lambda: now[0])
    for second in range(5 * GIVE_BACK_EVERY_SECONDS):
        now[0] = float(second)
        memory.look(is_quiet=second % 7 == 0 and second > GIVE_BACK_EVERY_SECONDS + 7)
    assert given[0] == 42
    assert all(GIVE_BACK_EVERY_SECONDS <= after - before < GIVE_BACK_EVERY_SECONDS + 7 for before, after in pairwise(given))
    assert len(given) == 4
