"""The limiter: declared windows over the fleet, what headers say, pauses, and what it costs where nothing limits."""

from __future__ import annotations

import time
import timeit
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.delivery.breaker import PARK_BEYOND_MS
from app.delivery.limiter import ACCOUNT_PIECES, Limiter
from app.delivery.retry import MAX_SILENT_PAUSE_MS, MIN_PAUSE_MS, SILENT_PAUSE_MS
from app.destinations.limits import Limits, Quota, Window

_NOW = 1_700_000_000_000


class World:
    """A limiter, its clock and its share."""

    def __init__(self, *windows: Window, share: float = 1.0, concurrency: int = 8, is_shared: bool = False, people: int = 100) -> None:
        self.now_ms = _NOW
        self.share = share
        limits = Limits(concurrency=concurrency, is_shared=is_shared, people=people, windows=windows)
        self.limiter = Limiter(limits, lambda: self.share, lambda: self.now_ms)

    def settle(self) -> None:
        """As long ago as it takes that the share is this worker's without reserve."""
        self.limiter.wait_ms()
        self.now_ms += 200_000

    def send(self, until_ms: int, people: int = 1, answer_ms: int | None = None) -> list[int]:
        """Send as much as it allows until then; returns when. With ``answer_ms``, each is answered at once, well."""
        sent = []
        while self.now_ms < until_ms:
            wait_ms = self.limiter.wait_ms(people)
            if wait_ms:
                self.now_ms += min(wait_ms, until_ms - self.now_ms)
                continue
            self.limiter.took(people)
            sent.append(self.now_ms)
            if answer_ms is not None:
                self.limiter.succeeded()
        return sent


# Declared windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [Window(5, 1), Window(75, 1), Window(750, 60), Window(100, 10, kind="fixed"), Window(300, 3)])
def test_a_window_is_kept_in_any_stretch_and_nearly_all_of_it_used(window: Window) -> None:
    world = World(window)
    world.settle()
    sent = world.send(world.now_ms + 120_000)
    assert _most_in(sent, window) <= window.amount
    assert len(sent) >= 0.9 * window.amount * 120 / window.seconds


def test_of_several_windows_each_is_kept() -> None:
    world = World(Window(75, 1), Window(750, 60))
    world.settle()
    sent = world.send(world.now_ms + 180_000)
    assert _most_in(sent, Window(75, 1)) <= 75
    assert _most_in(sent, Window(750, 60)) <= 750
    assert len(sent) >= 0.9 * 750 * 3


def test_after_a_quiet_time_some_go_at_once_and_the_rest_evenly() -> None:
    world = World(Window(750, 60))
    world.settle()
    sent = world.send(world.now_ms + 60_000)
    at_once = sum(at_ms == sent[0] for at_ms in sent)
    gaps = [b - a for a, b in pairwise(sent)]
    assert 20 <= at_once <= 750 / 4
    assert max(gaps) <= 200  # nobody waits for most of a minute because others went in its first seconds


def test_people_are_counted_where_people_are_limited() -> None:
    world = World(Window(100, 10, counts="people"))
    world.settle()
    sent = world.send(world.now_ms + 60_000, people=20)
    assert _most_in([at_ms for at_ms in sent for _ in range(20)], Window(100, 10)) <= 100
    assert 26 <= len(sent) <= 35
    assert world.limiter.most_people() == 100
    world.share = 0.25
    assert world.limiter.most_people() == 25


def test_a_request_that_asks_about_a_job_needs_no_room_for_people() -> None:
    world = World(Window(10, 10, counts="people"))
    world.settle()
    world.limiter.took(10)
    assert world.limiter.wait_ms(1) > 0
    assert world.limiter.wait_ms(0) == 0


def test_less_than_one_request_in_a_window_is_spread_over_longer_ones() -> None:
    world = World(Window(1, 1), share=1 / 8)
    world.settle()
    sent = world.send(world.now_ms + 80_000)
    assert 9 <= len(sent) <= 11
    assert min(b - a for a, b in pairwise(sent)) >= 8_000


def test_more_people_than_fit_go_alone_and_take_as_many_windows_as_they_need() -> None:
    world = World(Window(100, 1, counts="people"), share=1 / 10)
    world.settle()
    sent = world.send(world.now_ms + 60_000, people=50)
    assert 11 <= len(sent) <= 13
    assert min(b - a for a, b in pairwise(sent)) >= 5_000


def test_who_owns_nothing_sends_nothing() -> None:
    world = World(Window(5, 1), share=0.0)
    assert world.send(_NOW + 60_000) == []


def test_a_request_that_begins_as_the_last_partition_goes_harms_nothing() -> None:
    world = World(Window(5, 1))
    world.now_ms += world.limiter.throttled(1_000)
    world.limiter.took()
    world.limiter.succeeded()
    world.share = 0.0
    world.limiter.took()
    assert world.limiter.throttled(2_000) == 2_000
    assert world.limiter.wait_ms() > 0


def test_a_new_owner_waits_until_what_the_former_one_took_falls_out_of_the_window() -> None:
    """The former one may have been this process before its restart."""
    world = World(Window(100, 10))
    sent = world.send(_NOW + 10_000)
    assert sent[0] >= _NOW + 2_500
    assert sum(at_ms <= _NOW + 6_250 for at_ms in sent) <= 38
    assert 70 <= len(sent) <= 76


def test_a_clock_that_is_set_back_stops_nobody() -> None:
    world = World(Window(10, 1))
    world.settle()
    world.send(world.now_ms + 5_000)
    world.now_ms -= 3_600_000
    sent = world.send(world.now_ms + 5_000)
    assert len(sent) >= 35


@st.composite
def _fleets(draw: st.DrawFn) -> tuple[Window, list[tuple[list[int], float, int, float]]]:
    """A window, and what happens: who owns each of eight partitions, for how many windows all who own some send as many people in a
    request as that as fast as they may, and for how many windows nobody does.
    """
    window = Window(
        draw(st.integers(8, 80)),
        draw(st.sampled_from([1, 3, 10])),
        draw(st.sampled_from(["requests", "people"])),
        draw(st.sampled_from(["fixed", "rolling"])),
    )
    worker = st.integers(0, 3)
    owners = st.one_of(worker.map(lambda w: [w] * 8), st.lists(worker, min_size=8, max_size=8))
    times = st.floats(0, 1.2)
    return window, draw(st.lists(st.tuples(owners, times, st.integers(1, 8), st.one_of(st.just(0.0), times)), min_size=2, max_size=8))


@settings(deadline=None, max_examples=60)
@given(_fleets())
def test_a_fleet_never_takes_more_than_the_amount_in_any_stretch_whatever_partitions_move(
    fleet: tuple[Window, list[tuple[list[int], float, int, float]]],
) -> None:
    window, steps = fleet
    now_ms, owners = _NOW, [0] * 8
    limits = Limits(concurrency=8, people=100, windows=(window,))
    limiters = [Limiter(limits, lambda w=w: owners.count(w) / 8, lambda: now_ms) for w in range(4)]
    sent: list[int] = []
    for owners, send_windows, most_people, rest_windows in steps:
        for limiter in limiters:
            limiter.wait_ms()
        until_ms = now_ms + round(send_windows * window.seconds * 1000)
        while now_ms < until_ms:
            waits = []
            for worker in sorted(set(owners)):
                limiter = limiters[worker]
                people = min(most_people, limiter.most_people())
                if not (wait_ms := limiter.wait_ms(people)):
                    limiter.took(people)
                    sent += [now_ms] * (people if window.counts == "people" else 1)
                waits.append(wait_ms)
            now_ms += min(waits)
        now_ms = max(now_ms, until_ms) + round(rest_windows * window.seconds * 1000)
        assert all(len(limiter._accounts[0]._taken) <= ACCOUNT_PIECES + 2 for limiter in limiters)
    assert _most_in(sent, window) <= window.amount


# Headers -------------------------------------------------------------------------------------------------------------


def test_what_a_header_leaves_is_spread_over_the_time_until_it_counts_anew() -> None:
    world = World(share=0.5)
    world.limiter.told(Quota(remaining=100, resets_in_ms=50_000))
    sent = world.send(_NOW + 49_999)
    assert 45 <= len(sent) <= 50
    assert sent[20] - _NOW >= 15_000


def test_nothing_goes_where_nothing_is_left_until_it_counts_anew() -> None:
    world = World()
    world.limiter.told(Quota(remaining=0, resets_in_ms=30_000))
    assert world.limiter.wait_ms() == 30_000
    world.now_ms += 30_000
    assert world.limiter.wait_ms() == 0


def test_of_answers_that_overtake_one_another_the_least_counts() -> None:
    world = World()
    world.limiter.told(Quota(remaining=1, resets_in_ms=30_000))
    world.limiter.told(Quota(remaining=5, resets_in_ms=30_400))
    world.limiter.took()
    assert world.limiter.wait_ms() > 29_000
    world.now_ms += 31_000
    world.limiter.told(Quota(remaining=500, resets_in_ms=60_000))  # another window
    assert world.limiter.wait_ms() == 0


# Pauses --------------------------------------------------------------------------------------------------------------


def test_a_throttling_pauses_for_as_long_as_it_says_and_a_little_at_least() -> None:
    assert World().limiter.throttled(30_000) == 30_000
    assert World().limiter.throttled(0) == MIN_PAUSE_MS
    assert World().limiter.throttled(10**12) == PARK_BEYOND_MS  # the breaker parks for the rest


def test_a_first_silent_throttling_pauses_by_the_schedule_and_longer_with_each_in_a_row_up_to_a_bound() -> None:
    world = World()
    pauses = []
    for _ in range(12):
        pauses.append(world.limiter.throttled(None))
        world.now_ms += pauses[-1]
        assert world.limiter.wait_ms() == 0
        world.limiter.took()
    assert SILENT_PAUSE_MS <= pauses[0] <= 1.2 * SILENT_PAUSE_MS
    assert pauses[1] > 1.5 * pauses[0]
    assert max(pauses) <= 1.2 * MAX_SILENT_PAUSE_MS


def test_those_that_were_on_the_wire_beside_a_throttled_one_are_the_same_incident() -> None:
    world = World()
    first = world.limiter.throttled(None)
    world.now_ms += 100
    assert [world.limiter.throttled(None) for _ in range(30)] == [first - 100] * 30


def test_after_a_pause_one_request_goes_and_the_others_wait_for_its_answer() -> None:
    world = World()
    for _ in range(10):
        world.limiter.took()
        world.limiter.succeeded()
    world.now_ms += world.limiter.throttled(2_000)
    assert world.limiter.wait_ms() == 0
    world.limiter.took()
    assert world.limiter.wait_ms() > 0
    world.now_ms += 50
    world.limiter.succeeded()
    world.now_ms += 1_000
    assert world.limiter.wait_ms() == 0


def test_a_probe_that_is_never_answered_does_not_stop_the_rest_for_good() -> None:
    world = World()
    world.now_ms += world.limiter.throttled(1_000)
    world.limiter.took()
    world.now_ms += 10_000
    assert world.limiter.wait_ms() == 0


def test_one_throttling_of_a_quiet_destination_does_not_hold_back_those_who_come_later() -> None:
    world = World()
    for _ in range(4):
        world.limiter.took()
        world.limiter.succeeded()
        world.now_ms += 30_000
    world.limiter.took()
    world.now_ms += world.limiter.throttled(1_000)
    sent = world.send(world.now_ms + 40_000, answer_ms=0)
    assert len(sent) >= 200


def test_what_one_worker_learned_goes_with_its_share() -> None:
    world = World()
    for _ in range(100):
        world.limiter.took()
        world.limiter.succeeded()
        world.now_ms += 10
    world.now_ms += world.limiter.throttled(5_000)
    world.send(world.now_ms + 1, answer_ms=0)
    whole = len(world.send(world.now_ms + 3_000, answer_ms=0))
    world.share = 0.25
    assert len(world.send(world.now_ms + 3_000, answer_ms=0)) == pytest.approx(whole / 4, rel=0.35)


# Concurrency ---------------------------------------------------------------------------------------------------------


def test_places_on_the_wire_are_each_workers_or_the_fleets() -> None:
    assert World(concurrency=9, share=1 / 3).limiter.concurrency() == 9
    shared = World(concurrency=9, share=1 / 3, is_shared=True)
    assert shared.limiter.concurrency() == 3
    shared.share = 1 / 64
    assert shared.limiter.concurrency() == 1
    shared.share = 0
    assert shared.limiter.concurrency() == 0


# Where nothing limits ------------------------------------------------------------------------------------------------


def test_without_a_limit_nothing_ever_waits_and_the_clock_is_hardly_read() -> None:
    reads = 0

    def clock() -> int:
        nonlocal reads
        reads += 1
        return _NOW

    limiter = Limiter(Limits(concurrency=32), lambda: 1.0, clock)
    for _ in range(6_400):
        assert limiter.wait_ms() == 0
        limiter.took()
        limiter.succeeded()
    assert reads <= 110


def test_without_a_limit_a_request_costs_next_to_nothing() -> None:
    """A few hundred nanoseconds, with room for a busy machine: less than a tenth of what a signature alone takes."""
    limiter = Limiter(Limits(concurrency=32), lambda: 1.0, lambda: time.time_ns() // 1_000_000)

    def one() -> None:
        limiter.wait_ms(1)
        limiter.took(1)
        limiter.succeeded()

    nanoseconds = min(timeit.repeat(one, timer=time.process_time, number=5_000, repeat=10)) / 5_000 * 1e9
    print(f"{nanoseconds:.0f} ns")
    assert nanoseconds < 3_000


def _most_in(sent: list[int], window: Window) -> int:
    """The most in any stretch of the window's length."""
    length_ms = window.seconds * 1000
    most = first = 0
    for last, at_ms in enumerate(sent):
        while sent[first] <= at_ms - length_ms:
            first += 1
        most = max(most, last - first + 1)
    return most

