"""Schedules of faults: a seed decides all of it, and what they promise holds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.e2e import fleet
from tests.e2e.chaos.schedule import (
    BROKER_KINDS,
    BROKER_REST_SECONDS,
    HOLD_SECONDS,
    MAX_DISTURBED,
    NEWCOMER,
    SESSION_SECONDS,
    SHORT_KINDS,
    SHORT_SECONDS,
    Kind,
    Step,
    schedule,
    short_schedule,
)

SEEDS = range(300)
SECONDS = 60.0
#: In which a killed worker has come back on a machine that is not too busy.
SHORT_REST_SECONDS = 3.0


def test_a_seed_gives_the_same_schedule_again_and_another_seed_another() -> None:
    assert schedule(7, SECONDS) == schedule(7, SECONDS)
    assert len({schedule(seed, SECONDS) for seed in SEEDS}) == len(SEEDS)


def test_a_longer_run_begins_as_a_shorter_one_of_the_same_seed_does() -> None:
    for seed in SEEDS:
        short, long = schedule(seed, SECONDS), schedule(seed, 2 * SECONDS)
        assert tuple(step for step in long if step.at_seconds < SECONDS) == short


def test_every_kind_of_fault_comes_in_a_minute() -> None:
    lacking = {seed: set(Kind) - {step.kind for step in schedule(seed, SECONDS)} for seed in SEEDS}
    assert {seed: kinds for seed, kinds in lacking.items() if kinds} == {}


def test_a_short_run_has_one_of_each_of_its_kinds_and_is_over_in_time() -> None:
    for seed in SEEDS:
        steps = short_schedule(seed)
        assert sorted(step.kind for step in steps) == sorted(SHORT_KINDS)
        assert [step.at_seconds for step in steps] == sorted(step.at_seconds for step in steps)
        assert all(step.until_seconds <= SHORT_SECONDS for step in steps)
        by_kind = {step.kind: step for step in steps}
        assert by_kind[Kind.KILL].whom == by_kind[Kind.CUT].whom != by_kind[Kind.PAUSE_LONG].whom
        assert by_kind[Kind.KILL].at_seconds + SHORT_REST_SECONDS < by_kind[Kind.CUT].at_seconds
        assert by_kind[Kind.PAUSE_LONG].hold_seconds > SESSION_SECONDS
    assert len({short_schedule(seed) for seed in SEEDS}) == len(SEEDS)


def test_only_the_kinds_that_are_asked_for_come() -> None:
    asked = {Kind.KILL, Kind.BROKER_PAUSE}
    assert {step.kind for seed in SEEDS for step in schedule(seed, SECONDS, asked)} == asked
    assert schedule(1, SECONDS, ()) == ()


def test_steps_are_in_order_within_the_time_and_last_as_long_as_their_kind_may() -> None:
    for seed in SEEDS:
        steps = schedule(seed, SECONDS)
        assert [step.at_seconds for step in steps] == sorted(step.at_seconds for step in steps)
        for step in steps:
            shortest, longest = HOLD_SECONDS[step.kind]
            assert 0 < step.at_seconds < SECONDS
            assert shortest <= step.hold_seconds <= longest


def test_whoever_suffers_suffers_one_thing_at_a_time_and_brokers_rest_between() -> None:
    for seed in SEEDS:
        by_victim: dict[str, list[Step]] = {}
        for step in schedule(seed, SECONDS):
            by_victim.setdefault("the brokers" if step.is_of_broker else step.whom, []).append(step)
        for whom, steps in by_victim.items():
            rest = BROKER_REST_SECONDS if whom == "the brokers" else 0
            for one, next_one in pairwise(steps):
                assert one.until_seconds + rest < next_one.at_seconds


def test_one_of_the_first_workers_is_always_left_in_peace() -> None:
    for seed in SEEDS:
        steps = [step for step in schedule(seed, SECONDS) if not step.is_of_broker and step.whom != NEWCOMER]
        for step in steps:
            at = step.at_seconds
            assert len({other.whom for other in steps if other.at_seconds <= at < other.until_seconds} | {step.whom}) <= MAX_DISTURBED


def test_one_clock_at_most_is_ever_touched() -> None:
    for seed in SEEDS:
        assert len({step.whom for step in schedule(seed, SECONDS) if step.kind is Kind.CLOCK}) == 1


def test_pauses_lie_on_both_sides_of_the_fleets_session_time_out() -> None:
    assert SESSION_SECONDS == fleet.SESSION_SECONDS
    assert HOLD_SECONDS[Kind.PAUSE_SHORT][1] < SESSION_SECONDS < HOLD_SECONDS[Kind.PAUSE_LONG][0]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_step_says_who_what_and_for_how_long(kind: Kind) -> None:
    said = str(Step(1.0, kind, "b", 2.5, 600))
    assert said.startswith("b: ")
    assert kind.value in said
    assert "2.5 s" in said
    assert ("+600 s" in said) is (kind is Kind.CLOCK)
    assert ("broker" in said) is (kind in BROKER_KINDS)
