"""The circuit breaker: what opens it, for how long, and what closes it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.breaker import (
    FIRST_OPEN_MS,
    MAX_OPEN_MS,
    MAX_PARKED_MS,
    MAX_REASON_CHARS,
    MIN_ANSWERS,
    PROBE_MS,
    PROBES,
    SOUND_MS,
    WINDOW_ANSWERS,
    WINDOW_MS,
    Breaker,
    BreakerState,
    Cause,
)
from app.destinations.outcomes import DownCause

_NOW = 1_700_000_000_000


class World:
    """A breaker, its clock, and the states that it went through."""

    def __init__(self) -> None:
        self.now_ms = _NOW
        self.seen: list[BreakerState] = []
        self.breaker = Breaker(lambda: self.now_ms, self.seen.append)

    def trip(self) -> None:
        for _ in range(MIN_ANSWERS):
            self.breaker.failed("500")
        assert self.breaker.state.kind == "open"

    def wait_until_half_open(self) -> None:
        self.now_ms = self.breaker.state.until_ms
        assert self.breaker.allows()
        assert self.breaker.state.kind == "half_open"

    def close_by_probes(self) -> None:
        self.wait_until_half_open()
        for _ in range(PROBES):
            self.breaker.succeeded(self.breaker.begin())
        assert self.breaker.state.kind == "closed"


@pytest.fixture
def world() -> World:
    return World()


# By rate -------------------------------------------------------------------------------------------------------------


def test_it_trips_at_seven_failures_in_ten_and_not_at_six(world: World) -> None:
    for _ in range(4):
        world.breaker.succeeded()
    for _ in range(9):
        world.breaker.failed("500")
        assert world.breaker.state.kind == "closed"  # 6 of 10, 9 of 13
    world.breaker.failed("504")  # 10 of 14
    assert world.breaker.state == BreakerState("open", Cause.ERRORS, "504", _NOW, _NOW + FIRST_OPEN_MS)


def test_a_few_failures_alone_do_not_trip_it(world: World) -> None:
    for _ in range(MIN_ANSWERS - 1):
        world.breaker.failed("no answer")
    assert world.breaker.allows()
    world.breaker.failed("no answer")
    assert not world.breaker.allows()


def test_failures_of_long_ago_do_not_count(world: World) -> None:
    for _ in range(MIN_ANSWERS - 1):
        world.breaker.failed("500")
    world.now_ms += WINDOW_MS + 1
    world.breaker.failed("500")
    assert world.breaker.allows()


def test_one_success_among_failures_resets_nothing(world: World) -> None:
    for _ in range(4):
        for _ in range(4):
            world.breaker.failed("500")
        world.breaker.succeeded()
    assert world.breaker.state.cause is Cause.ERRORS


def test_a_busy_destination_that_dies_trips_it_after_moments_however_much_went_well_before(world: World) -> None:
    for _ in range(100_000):
        world.breaker.succeeded()
    for _ in range(WINDOW_ANSWERS):
        world.breaker.failed("connection refused")
    assert not world.breaker.allows()


def test_refusals_of_people_are_answers_and_do_not_trip_it(world: World) -> None:
    for _ in range(1_000):
        world.breaker.succeeded(world.breaker.begin())
    assert world.seen == []


# Half-open -----------------------------------------------------------------------------------------------------------


def test_probes_pass_one_at_a_time_and_some_in_a_row_close_it(world: World) -> None:
    world.trip()
    assert world.breaker.next_at_ms() == _NOW + FIRST_OPEN_MS
    world.wait_until_half_open()
    for n in range(PROBES):
        assert world.breaker.allows()
        assert world.breaker.next_at_ms() == 0
        era = world.breaker.begin()
        assert not world.breaker.allows()
        assert world.breaker.next_at_ms() == world.now_ms + PROBE_MS
        world.breaker.succeeded(era)
        assert (world.breaker.state.kind == "closed") == (n == PROBES - 1)
    assert [state.kind for state in world.seen] == ["open", "half_open", "closed"]


def test_each_trip_in_a_row_keeps_it_open_for_twice_as_long_up_to_a_bound(world: World) -> None:
    world.trip()
    waits = []
    for _ in range(10):
        waits.append(world.breaker.state.until_ms - world.now_ms)
        world.wait_until_half_open()
        world.breaker.failed("500", world.breaker.begin())
    assert waits == [min(FIRST_OPEN_MS * 2**n, MAX_OPEN_MS) for n in range(10)]


def test_a_destination_that_flaps_is_not_made_sound_by_being_closed_in_between(world: World) -> None:
    waits = []
    for _ in range(4):
        world.trip()
        waits.append(world.breaker.state.until_ms - world.now_ms)
        world.close_by_probes()
    assert waits == [FIRST_OPEN_MS * 2**n for n in range(4)]


def test_after_a_long_time_closed_the_first_trip_is_short_again(world: World) -> None:
    world.trip()
    world.close_by_probes()
    world.now_ms += SOUND_MS
    world.trip()
    assert world.breaker.state.until_ms - world.now_ms == FIRST_OPEN_MS


def test_a_probe_that_says_nothing_lets_the_next_one_pass(world: World) -> None:
    world.trip()
    world.wait_until_half_open()
    world.breaker.ended(world.breaker.begin())
    assert world.breaker.allows()
    assert world.breaker.state.kind == "half_open"


def test_a_probe_that_nobody_heard_of_again_is_over_after_its_time(world: World) -> None:
    world.trip()
    world.wait_until_half_open()
    world.breaker.begin()
    world.now_ms += PROBE_MS - 1
    assert not world.breaker.allows()
    world.now_ms += 1
    assert world.breaker.allows()


def test_a_probe_that_was_given_up_and_ends_late_lets_no_second_one_beside_the_next(world: World) -> None:
    world.trip()
    world.wait_until_half_open()
    late = world.breaker.begin()
    world.now_ms += PROBE_MS
    assert world.breaker.allows()
    world.breaker.begin()
    world.breaker.succeeded(late)
    world.breaker.ended(late)
    assert not world.breaker.allows()


def test_an_answer_to_a_request_from_before_the_trip_is_not_taken_for_a_probes(world: World) -> None:
    before = world.breaker.begin()
    world.trip()
    world.wait_until_half_open()
    world.breaker.begin()
    for _ in range(PROBES):
        world.breaker.succeeded(before)
        world.breaker.ended(before)
    world.breaker.failed("500", before)
    assert world.breaker.state.kind == "half_open"
    assert not world.breaker.allows()


# By cause ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", list(DownCause))
def test_what_time_does_not_mend_stays_open_until_an_operator_acts(world: World, cause: DownCause) -> None:
    world.breaker.opened(cause, "see for yourself")
    assert world.breaker.next_at_ms() is None
    world.now_ms += 10**10
    world.breaker.succeeded()
    world.breaker.failed("500")
    world.breaker.parked(world.now_ms + 5, "later")
    assert not world.breaker.allows()
    assert (world.breaker.state.cause, world.breaker.state.since_ms) == (Cause(cause.value), _NOW)
    world.breaker.closed_by_operator()
    assert world.breaker.allows()
    assert len(world.seen) == 2


def test_it_is_parked_until_the_time_it_was_told_then_probed(world: World) -> None:
    world.breaker.parked(_NOW + 20 * 3_600_000, "477: moving, Retry-After 72000")
    assert world.breaker.state.cause is Cause.PARKED
    assert world.breaker.next_at_ms() == _NOW + 20 * 3_600_000
    world.now_ms += 20 * 3_600_000 - 1
    assert not world.breaker.allows()
    world.now_ms += 1
    assert world.breaker.allows()
    world.breaker.begin()
    assert not world.breaker.allows()


def test_nobody_is_parked_for_longer_than_the_bound(world: World) -> None:
    world.breaker.parked(2**62, "a mistake")
    assert world.breaker.state.until_ms == _NOW + MAX_PARKED_MS


def test_an_operators_pause_holds_over_everything_but_an_operators_word(world: World) -> None:
    world.breaker.paused_by_operator("a migration")
    world.breaker.opened(DownCause.AUTH, "401")
    for _ in range(2 * MIN_ANSWERS):
        world.breaker.failed("500")
    assert (world.breaker.state.cause, world.breaker.state.reason) == (Cause.OPERATOR, "a migration")
    world.breaker.closed_by_operator()
    assert (world.breaker.state.kind, world.breaker.state.cause) == ("closed", Cause.OPERATOR)


def test_refused_credentials_replace_errors_and_parking(world: World) -> None:
    world.trip()
    world.breaker.parked(_NOW + 10**7, "later")
    assert world.breaker.state.cause is Cause.PARKED
    world.breaker.opened(DownCause.AUTH, "401")
    assert world.breaker.state.cause is Cause.AUTH


def test_the_same_finding_twice_is_told_once(world: World) -> None:
    for _ in range(32):
        world.breaker.opened(DownCause.AUTH, "401")
    assert len(world.seen) == 1


def test_a_reason_is_one_printable_line_of_bounded_length(world: World) -> None:
    world.breaker.opened(DownCause.AUTH, "a\nb\x00c\x1b[31m" + "é" * 10_000)
    reason = world.breaker.state.reason
    assert reason.startswith("a b c [31mé")
    assert len(reason) == MAX_REASON_CHARS


# Others' findings ----------------------------------------------------------------------------------------------------


def test_it_takes_over_a_state_and_goes_on_from_there(world: World) -> None:
    state = BreakerState("open", Cause.ERRORS, "500", _NOW - 10, _NOW + 50)
    world.breaker.restore(state)
    assert world.seen == [state]
    assert not world.breaker.allows()
    world.close_by_probes()


def test_each_state_is_later_than_the_one_before_even_if_the_clock_was_set_back(world: World) -> None:
    world.breaker.opened(DownCause.AUTH, "401")
    world.now_ms -= 1_000_000
    world.breaker.closed_by_operator()
    world.breaker.opened(DownCause.AUTH, "401")
    sinces = [state.since_ms for state in world.seen]
    assert sinces == sorted(set(sinces))


def test_a_clock_that_was_ahead_when_it_tripped_keeps_it_open_no_longer_than_a_trip_may(world: World) -> None:
    world.now_ms += 3_000_000
    world.trip()
    world.now_ms -= 3_000_000
    assert world.breaker.allows(), "it is probed, for nobody knows how long it was open"
    world.breaker.failed("500", world.breaker.begin())
    assert not world.breaker.allows()


# Whatever happens ----------------------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "succeeded", "failed", "ended", "opened", "parked", "pause", "resume", "wait"]),
        st.integers(0, 200_000),
    ),
    max_size=120,
)


@given(_STEPS)
def test_no_two_probes_pass_and_it_stays_in_its_states(steps: list[tuple[str, int]]) -> None:
    world = World()
    breaker = world.breaker
    #: Era, which of the states it began in (0 unless it is a probe), and when.
    on_wire: list[tuple[int, int, int]] = []
    for what, number in steps:
        match what:
            case "begin":
                if breaker.allows():
                    is_probe = breaker.state.kind == "half_open"
                    era = breaker.begin()
                    if is_probe:
                        assert not [began for _, of, began in on_wire if of == len(world.seen) and world.now_ms - began < PROBE_MS]
                    on_wire.append((era, len(world.seen) if is_probe else 0, world.now_ms))
            case "succeeded" | "failed" | "ended" if on_wire:
                era, _, _ = on_wire.pop(number % len(on_wire))
                {"succeeded": breaker.succeeded, "failed": lambda e: breaker.failed("500", e), "ended": breaker.ended}[what](era)
            case "opened":
                breaker.opened(list(DownCause)[number % 3], "401")
            case "parked":
                breaker.parked(world.now_ms + number, "later")
            case "pause":
                breaker.paused_by_operator("")
            case "resume":
                breaker.closed_by_operator()
            case "wait":
                world.now_ms += number
        state = breaker.state
        match state.kind:
            case "closed":
                assert state.cause in (None, Cause.OPERATOR)
                assert breaker.allows()
                assert breaker.next_at_ms() == 0
            case "open":
                assert state.cause is not None
                assert bool(state.until_ms) != state.cause.needs_operator
                assert breaker.next_at_ms() == (state.until_ms or None)
            case "half_open":
                assert state.cause in (Cause.ERRORS, Cause.PARKED)
                assert breaker.next_at_ms() is not None
    changes = [(state.since_ms, state.kind == "half_open") for state in world.seen]
    assert all(a[0] < b[0] or b[1] for a, b in pairwise(changes))
