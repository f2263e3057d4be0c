"""Whether the event loop is busy follows what its thread wanted of a core lately, not what it did long ago."""

from __future__ import annotations

import time

from app.engine.busyness import BUSY_ABOVE, BUSY_FROM, LOOK_SECONDS, Busyness, seconds_wanted


class Core:
    """A clock, and what was wanted of a core so far; ``looks`` counts how often that was asked for."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.seconds = 50.0
        self.looks = 0
        self.busyness = Busyness(self._wanted, lambda: self.now)

    def _wanted(self) -> float:
        self.looks += 1
        return self.seconds

    def spend(self, share: float, seconds: float) -> None:
        """Pass some time in small steps, each asking, as a running worker does."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            self.seconds += share * 0.01
            _ = self.busyness.is_busy


def test_nothing_is_known_at_first_and_that_is_not_busy() -> None:
    core = Core()
    assert not core.busyness.is_busy
    assert core.busyness.share == 0


def test_a_full_core_is_busy_within_a_second() -> None:
    core = Core()
    core.spend(0.0, 5)
    core.spend(1.0, 1)
    assert core.busyness.is_busy
    core.spend(1.0, 10)
    assert core.busyness.share > 0.99


def test_a_small_part_of_a_core_never_is() -> None:
    core = Core()
    core.spend(BUSY_FROM - 0.05, 30)
    assert not core.busyness.is_busy


def test_what_being_busy_saves_does_not_end_it() -> None:
    core = Core()
    core.spend(BUSY_FROM + 0.1, 10)
    assert core.busyness.is_busy
    core.spend(BUSY_ABOVE + 0.05, 30)
    assert core.busyness.is_busy
    core.spend(BUSY_ABOVE - 0.05, 30)
    assert not core.busyness.is_busy


def test_the_first_click_after_a_pause_finds_an_idle_worker() -> None:
    core = Core()
    core.spend(1.0, 30)
    core.now += 5
    assert not core.busyness.is_busy, "nobody asked meanwhile, and what was before counts no more"


def test_it_looks_a_few_times_a_second_however_often_it_is_asked() -> None:
    core = Core()
    core.spend(0.5, 10)
    assert core.looks <= 1 + 10 / LOOK_SECONDS


def test_a_clock_that_gives_nonsense_leaves_a_share_between_none_and_one() -> None:
    core = Core()
    core.spend(0.5, 5)
    core.now, core.seconds = core.now + 1, 0.0
    assert 0 <= core.busyness.share <= 1
    core.now, core.seconds = core.now + 1, 1e9
    assert 0 <= core.busyness.share <= 1


def test_a_thread_that_works_wants_a_core_and_one_that_sleeps_does_not() -> None:
    before = seconds_wanted()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    worked = seconds_wanted() - before
    time.sleep(0.2)
    slept = seconds_wanted() - before - worked
    assert worked >= 0.045  # the kernel counts in ticks, on some machines
    assert slept < worked + 0.1
