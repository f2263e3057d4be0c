"""Who waits for a ranking: each user from their own first event on, and their events are seen through with the round they stand in."""

from __future__ import annotations

from app.engine.commit import Unit
from app.streams.dirty_users import MAX_ROUND_USERS, DirtyUsers
from app.streams.keep_neighbours import NEIGHBOURS
from tests.agents.worlds import DictState


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def new_unit() -> Unit[object]:
    return Unit(DictState(NEIGHBOURS))  # type: ignore[arg-type]  # DictState stands in


async def test_users_who_become_dirty_within_the_span_stand_in_one_round() -> None:
    clock = Clock()
    waiting, unit = DirtyUsers(0.5, clock), new_unit()
    waiting.add(unit, b"anna", 1)
    clock.now += 0.49
    waiting.add(unit, b"ben", 2)
    clock.now += 0.01
    waiting.add(unit, b"cleo", 3)

    assert [(round_.since, round_.users) for round_ in waiting] == [(100.0, {b"anna": 1, b"ben": 2}), (100.5, {b"cleo": 3})]
    assert len(waiting) == 3
    assert unit.holds == [round_.ranked for round_ in waiting]


async def test_someone_who_waits_keeps_their_place_and_their_earliest_cause() -> None:
    clock = Clock()
    waiting, first, answer = DirtyUsers(0.1, clock), new_unit(), new_unit()
    waiting.add(first, b"anna", 5)
    clock.now += 10
    waiting.add(answer, b"anna", 4)
    waiting.add(answer, b"anna", 6)

    [round_] = waiting
    assert round_.users == {b"anna": 4}
    assert first.holds == answer.holds == [round_.ranked], "the answer is seen through with the round that it came in time for"


async def test_who_becomes_dirty_after_the_round_was_taken_is_ranked_again() -> None:
    waiting, before, after = DirtyUsers(10.0, Clock()), new_unit(), new_unit()
    waiting.add(before, b"anna", 1)
    taken = waiting.take()
    assert (len(waiting), waiting.oldest) == (0, None)
    waiting.add(after, b"anna", 2)

    assert waiting.oldest is not None
    assert waiting.oldest is not taken
    assert after.holds == [waiting.oldest.ranked]
    assert taken.users == {b"anna": 1}


async def test_a_round_is_full_at_some_time_and_is_seen_through_before_the_next_one_is_ranked() -> None:
    waiting, early, late = DirtyUsers(10.0, Clock()), new_unit(), new_unit()
    for number in range(MAX_ROUND_USERS):
        waiting.add(early, b"%d" % number, number)
    waiting.add(late, b"0", MAX_ROUND_USERS)
    waiting.add(late, b"anna", MAX_ROUND_USERS + 1)

    first, second = waiting
    assert (len(first.users), second.users) == (MAX_ROUND_USERS, {b"anna": MAX_ROUND_USERS + 1})
    assert (early.holds, late.holds) == ([first.ranked], [first.ranked, second.ranked])
