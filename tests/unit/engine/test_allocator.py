"""What is free goes back to the system: run apart, for it says how a whole process takes memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from itertools import pairwise

import pytest

from app.engine.allocator import GIVE_BACK_EVERY_SECONDS, FreeMemory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")

_HOLES = """
from app.engine.allocator import give_back
from app.engine.held_memory import resident_bytes
kept, before = [], resident_bytes()
many = [bytes(5_000) for _ in range(10_000)]
full = resident_bytes()
kept += many[::50]
del many
{free}
print(full - before, resident_bytes() - before)
"""


def resident(free: str = "") -> tuple[int, int]:
    code = _HOLES.format(free=free)
    full, left = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return int(full), int(left)


@glibc
def test_what_lies_free_between_what_is_kept_is_given_back():
    full, left = resident()
    assert full > 45_000_000
    assert left > 0.9 * full, "glibc keeps it by itself"
    full, left = resident(free="assert give_back()")
    assert left < 0.2 * full


def test_it_is_given_back_when_nothing_waits_and_not_again_before_some_time_has_passed():
    now, given = [0.0], []
    memory = FreeMemory(lambda: given.append(now[0]) is None, lambda: now[0])
    for second in range(5 * GIVE_BACK_EVERY_SECONDS):
        now[0] = float(second)
        memory.look(is_quiet=second % 7 == 0 and second > GIVE_BACK_EVERY_SECONDS + 7, position=0)
    assert given[0] == 42
    assert all(GIVE_BACK_EVERY_SECONDS <= after - before < GIVE_BACK_EVERY_SECONDS + 7 for before, after in pairwise(given))
    assert len(given) == 4


def test_what_is_kept_is_forgotten_where_nothing_was_done_from_one_time_to_the_next():
    now, said = [0.0], []
    memory = FreeMemory(lambda: said.append("give back") is None, lambda: now[0], lambda: said.append("forget"))
    for position in (7, 8, 8, 8, 9):
        now[0] += GIVE_BACK_EVERY_SECONDS
        memory.look(is_quiet=True, position=position)
        said.append(str(position))
    assert said == ["give back", "7", "give back", "8", "forget", "give back", "8", "forget", "give back", "8", "give back", "9"]
