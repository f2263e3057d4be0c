"""A target's lane."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.delivery.lane import Lane, Turn, divide


def _lane() -> Lane:
    return Lane(lambda _: 0)


def _take(lane: Lane, now_ms: int) -> Turn | None:
    return next(iter(lane.take(now_ms, 1)), None)


def test_users_are_taken_in_the_order_they_came_each_once() -> None:
    lane = _lane()
    lane.due(["b", "a", "b"])
    lane.due(["a", "c"])
    taken = [turn.user_id for turn in iter(lambda: _take(lane, 0), None)]
    assert taken == ["b", "a", "c"]


def test_a_user_in_a_turn_is_not_taken_again_until_it_ends() -> None:
    lane = _lane()
    lane.due(["a"])
    turn = _take(lane, 0)
    assert turn
    lane.due(["a"])
    assert _take(lane, 0) is None
    lane.end(turn, 0)
    assert _take(lane, 0) is not None


def test_a_clock_that_is_set_back_makes_nobody_wait_longer() -> None:
    lane = _lane()
    lane.due(["a"])
    turn = _take(lane, 3_000_000)
    assert turn
    lane.end(turn, 3_005_000)
    lane.pause(3_002_000)
    lane.set_back(3_000_000)
    assert not lane.is_open(1_999)
    assert lane.is_open(2_000)
    assert lane.next_at_ms() == 5_000
    assert _take(lane, 4_999) is None
    assert _take(lane, 5_000) is not None


def test_no_more_turns_are_taken_at_once_than_asked_for() -> None:
    lane = _lane()
    lane.due("abc")
    assert lane.take(0, 0) == []
    assert lane.take(0, -1) == []
    assert [turn.user_id for turn in lane.take(0, 2)] == ["a", "b"]
    assert [turn.user_id for turn in lane.take(0, 2)] == ["c"]
    assert lane.open_turns == 3


def test_turns_that_are_taken_together_are_of_one_partition_and_partitions_take_turns() -> None:
    lane = Lane(lambda user: int(user[0]))
    lane.due(["0a", "1a", "0b", "2a", "0c", "1b"])
    taken = [[turn.user_id for turn in turns] for turns in iter(lambda: lane.take(0, 2), [])]
    assert taken == [["0a", "0b"], ["1a", "1b"], ["2a"], ["0c"]]


def test_a_busy_partition_is_passed_over_and_keeps_its_place() -> None:
    lane = Lane(lambda user: int(user[0]))
    lane.due(["0a", "1a"])
    assert [turn.user_id for turn in lane.take(0, 9, busy={0})] == ["1a"]
    assert lane.take(0, 9, busy={0}) == []
    assert [turn.user_id for turn in lane.take(0, 9)] == ["0a"]


def test_whoever_becomes_due_in_a_turn_is_told_of_by_partition() -> None:
    lane = Lane(lambda user: int(user[0]))
    assert lane.due(["0a", "1a"]) == set()
    lane.take(0, 9)
    assert lane.due(["0a", "1a", "1b"]) == {0}


def test_a_timed_user_is_ready_when_the_time_comes_or_when_something_new_comes() -> None:
    lane = _lane()
    lane.due("ab")
    for user in "ab":
        turn = _take(lane, 0)
        assert turn
        lane.end(turn, 1000 if user == "a" else 2000)
    assert lane.next_at_ms() == 1000
    assert _take(lane, 999) is None
    first = _take(lane, 1000)
    assert first
    assert first.user_id == "a"
    assert _take(lane, 1999) is None
    lane.due(["b"])
    second = _take(lane, 1999)
    assert second
    assert second.user_id == "b"
    lane.end(second, None)
    assert _take(lane, 3000) is None, "the superseded timer makes nobody ready"


def test_whoever_had_no_chance_in_a_turn_may_come_before_the_others() -> None:
    lane = _lane()
    lane.due("abc")
    turns = lane.take(0, 2)
    for turn in reversed(turns):
        lane.end(turn, 0, first=True)
    assert [turn.user_id for turn in lane.take(0, 9)] == ["a", "b", "c"]


def test_a_paused_lane_has_no_turn_before_its_time() -> None:
    lane = _lane()
    lane.due(["a"])
    lane.pause(1000)
    lane.pause(500)
    assert _take(lane, 999) is None
    assert lane.next_at_ms() == 1000
    assert _take(lane, 1000)


def test_whoever_is_sent_once_more_comes_when_nobody_has_anything_new() -> None:
    lane = Lane(lambda user: int(user[0]))
    assert lane.due_again(["0a", "0b", "1a"]) == set()
    lane.due(["1b"])
    assert lane.take_resync(0, 9) == []
    assert [turn.user_id for turn in lane.take(0, 9)] == ["1b"]
    assert [turn.user_id for turn in lane.take_resync(0, 1)] == ["0a"]
    assert [turn.user_id for turn in lane.take_resync(0, 9)] == ["1a"]
    assert lane.resync_users == 1
    assert lane.due_again(["0a"]) == {0}


def test_whoever_has_something_new_leaves_those_who_are_sent_once_more() -> None:
    lane = _lane()
    lane.due_again(["a", "b"])
    lane.due(["b"])
    assert [turn.user_id for turn in lane.take(0, 9)] == ["b"]
    assert [turn.user_id for turn in lane.take_resync(0, 9)] == ["a"]
    assert not lane.has_resync


def test_whoever_is_in_the_lane_already_is_not_in_it_twice() -> None:
    lane = _lane()
    lane.due(["a", "b"])
    turn = _take(lane, 0)
    assert turn
    lane.end(turn, 1000)
    lane.due_again(["a", "b"])
    assert (len(lane), lane.resync_users) == (2, 0)


def test_a_forgotten_users_turn_keeps_its_slot_but_counts_no_more() -> None:
    lane = _lane()
    lane.due(["a"])
    old = _take(lane, 0)
    assert old
    lane.forget({0})
    assert not lane.holds(old)
    assert (len(lane), lane.open_turns) == (0, 1), "the old request is still on the wire"
    lane.due(["a"])
    new = _take(lane, 0)
    assert new
    lane.end(old, 0)
    assert lane.holds(new)
    assert not lane.holds(old)
    assert (_take(lane, 0), lane.open_turns) == (None, 1)


def test_a_hundred_thousand_users_are_no_trouble() -> None:
    lane = Lane(lambda user: int(user[-1]), 100_000)
    users = [f"user-{i}" for i in range(100_000)]
    started = time.perf_counter()
    lane.due(users)
    for at_ms in range(100_000):
        turn = _take(lane, 0)
        assert turn
        lane.end(turn, 1 + at_ms)
    lane.due(users)
    lane.forget({7})
    assert len(lane) == 90_000
    assert time.perf_counter() - started < 30, "quadratic would take minutes"


def test_superseded_timers_do_not_pile_up() -> None:
    lane = _lane()
    for round_ in range(20_000):
        lane.due(["a"])
        turn = _take(lane, 0)
        assert turn
        lane.end(turn, 10**12 + round_)
    assert len(lane._heap) < 2000


def test_whoever_has_no_room_is_left_out_and_counted_where_they_live() -> None:
    lane = Lane(lambda user: int(user[0]), 3)
    lane.due(["0a", "0b", "1a", "1b", "2a"])
    assert sorted(lane.users()) == ["0a", "0b", "1a"]
    assert (lane.left_out.users, lane.left_out.next(0)) == (2, 1)
    assert not lane.has_much_room
    lane.due(["0a", "1a"])
    lane.due_again(["0b", "2b"])
    assert (len(lane), lane.left_out.users) == (3, 3), "whoever is here is not left out"
    lane.forget({1, 2})
    assert (len(lane), lane.left_out.users) == (2, 0)


def test_whoever_waits_for_a_time_takes_nobodys_room_and_is_left_out_until_then_when_too_many_do() -> None:
    lane = Lane(lambda _: 0, 2)
    for n, user in enumerate("abc"):
        lane.due([user])
        turn = _take(lane, 0)
        assert turn
        lane.end(turn, 1_000 * (n + 1))
    assert sorted(lane.users()) == ["a", "b"]
    assert (lane.room, lane.left_out.users) == (2, 1)
    assert lane.left_out.next(2_999) is None
    assert lane.left_out.next(3_000) == 0


def test_a_user_who_changes_places_takes_one_room() -> None:
    lane = Lane(lambda _: 0, 2)
    lane.due_again(["a", "b"])
    lane.due(["a", "b"])
    assert (sorted(lane.users()), lane.left_out.users, lane.room) == (["a", "b"], 0, 0)


def _partition_of(user: str) -> int:
    return ord(user) % 3


class LaneMachine(RuleBasedStateMachine):
    """A lane does what a plain list of who is where would do."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane(_partition_of)
        self.now_ms = 0
        self.turns: list[Turn] = []
        self.inside: set[str] = set()

    @rule(user=st.sampled_from("abcdefgh"))
    def due(self, user: str) -> None:
        self.lane.due([user])
        self.inside.add(user)

    @rule(limit=st.integers(0, 3), busy=st.sets(st.integers(0, 2), max_size=2))
    def take(self, limit: int, busy: set[int]) -> None:
        turns = self.lane.take(self.now_ms, limit, busy)
        assert len(turns) <= limit
        assert len({turn.partition for turn in turns} - busy) == bool(turns)
        for turn in turns:
            assert all(t.user_id != turn.user_id or not self.lane.holds(t) for t in self.turns)
            self.turns.append(turn)

    @rule(user=st.sampled_from("abcdefgh"))
    def due_again(self, user: str) -> None:
        self.lane.due_again([user])
        self.inside.add(user)

    @rule(limit=st.integers(0, 3), busy=st.sets(st.integers(0, 2), max_size=2))
    def take_resync(self, limit: int, busy: set[int]) -> None:
        ready = self.lane.has_ready
        turns = self.lane.take_resync(self.now_ms, limit, busy)
        assert not (turns and ready)
        self.turns += turns

    @rule(again=st.sampled_from([None, 0, 5, 50]), is_resync=st.booleans())
    def end(self, again: int | None, is_resync: bool) -> None:
        if self.turns:
            turn = self.turns.pop(0)
            held = self.lane.holds(turn)
            self.lane.end(turn, again + self.now_ms if again else again, is_resync=is_resync)
            if held and again is None:
                self.inside.discard(turn.user_id)

    @rule(user=st.sampled_from("abcdefgh"))
    def forget(self, user: str) -> None:
        self.lane.forget({_partition_of(user)})
        self.inside -= {u for u in self.inside if _partition_of(u) == _partition_of(user)}

    @rule(by=st.integers(1, 20))
    def wait(self, by: int) -> None:
        self.now_ms += by

    @invariant()
    def the_lane_holds_whom_it_should(self) -> None:
        assert sorted(self.lane.users()) == sorted(self.inside)
        assert len(self.lane) == len(self.inside)
        assert self.lane.open_turns == len(self.turns)

    def teardown(self) -> None:
        """Everyone inside gets a turn in the end."""
        for turn in self.turns:
            self.lane.end(turn, 0)
        waiting = set(self.inside)
        while turns := self.lane.take(10**9, 2) or self.lane.take_resync(10**9, 2):
            for turn in turns:
                waiting.discard(turn.user_id)
                self.lane.end(turn, None)
        assert not waiting


TestLaneMachine = LaneMachine.TestCase


@pytest.mark.parametrize(
    ("limit", "wanted", "shares"),
    [
        (256, [8, 8], [8, 8]), (10, [8, 8], [5, 5]), (10, [2, 100], [2, 8]), (3, [100, 100, 100], [1, 1, 1]), (7, [3, 1, 100], [3, 1, 3]),
        (5, [], []),
    ],
)
def test_a_limit_is_divided_evenly_and_small_wishes_leave_more_for_large_ones(limit: int, wanted: list[int], shares: list[int]) -> None:
    assert divide(limit, wanted) == shares


@given(st.integers(1, 1000), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_shares_never_exceed_the_limit_nor_starve_a_target(limit: int, wanted: list[int]) -> None:
    shares = divide(limit, wanted)
    assert sum(shares) <= limit
    assert all(share <= wish for share, wish in zip(shares, wanted, strict=True))
    assert limit < len(wanted) or min(shares) >= 1
    assert sum(shares) == min(limit, sum(wanted)), "nothing is left over that someone wanted"
