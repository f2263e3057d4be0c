"""From where a log ended, and when, follows how old a copy is."""

from __future__ import annotations

from faust.types import TP

from app.engine.log_ends import MAX_ENDS, LogEnds

EVENTS = TP("events", 3)


def test_a_copy_is_current_to_the_last_moment_at_which_it_held_all_there_was() -> None:
    ends = LogEnds()
    for end, at_ms in ((10, 1000), (10, 2000), (15, 3000), (15, 4000), (20, 5000)):
        ends.note(EVENTS, end, at_ms)
    known = {offset: (ends.current_to_ms(EVENTS, offset), ends.lag(EVENTS, offset)) for offset in (9, 10, 14, 15, 19, 20, 25)}
    assert known == {9: (None, 11), 10: (2000, 10), 14: (2000, 6), 15: (4000, 5), 19: (4000, 1), 20: (5000, 0), 25: (5000, 0)}


def test_of_a_log_that_nobody_asked_about_nothing_is_known() -> None:
    ends = LogEnds()
    assert ends.current_to_ms(EVENTS, 10) is None
    assert ends.lag(EVENTS, 10) is None


def test_an_end_that_is_understated_or_comes_late_changes_nothing() -> None:
    ends = LogEnds()
    for end, at_ms in ((10, 2000), (8, 3000), (12, 1000)):
        ends.note(EVENTS, end, at_ms)
    assert (ends.current_to_ms(EVENTS, 10), ends.lag(EVENTS, 10)) == (2000, 0)


def test_of_what_was_before_the_latest_end_is_learnt_too_as_long_as_it_fits() -> None:
    ends = LogEnds()
    ends.note(EVENTS, 100, 9000)
    assert ends.current_to_ms(EVENTS, 60) is None, "whoever has just come is behind"
    ends.note(EVENTS, 50, 4000)
    assert (ends.current_to_ms(EVENTS, 60), ends.lag(EVENTS, 60), ends.current_to_ms(EVENTS, 49)) == (4000, 40, None)
    ends.note(EVENTS, 70, 5000)
    ends.note(EVENTS, 60, 9500)
    ends.note(EVENTS, 65, 3000)
    assert [ends.current_to_ms(EVENTS, offset) for offset in (60, 65, 70, 100)] == [4000, 4000, 5000, 9000]
    ends.note(EVENTS, 70, 6000)
    assert ends.current_to_ms(EVENTS, 70) == 6000


def test_what_is_learnt_late_is_bounded_too() -> None:
    ends = LogEnds()
    for n in range(MAX_ENDS):
        ends.note(EVENTS, 10 * n, 10 * n)
    ends.note(EVENTS, 10 * MAX_ENDS - 15, 10 * MAX_ENDS - 15)
    assert ends.current_to_ms(EVENTS, 0) == 0


def test_what_is_remembered_is_bounded_and_a_copy_that_is_far_behind_keeps_an_age() -> None:
    """Thinned out, what is far back makes a copy seem older, never younger; of the last hundreds each counts."""
    ends, count = LogEnds(), 100 * MAX_ENDS
    for n in range(count):
        ends.note(EVENTS, n, n)
    assert len(ends._ends[EVENTS]) <= MAX_ENDS
    assert ends.current_to_ms(EVENTS, 0) == 0
    told = [ends.current_to_ms(EVENTS, offset) for offset in range(count)]
    assert all(at_ms is not None and at_ms <= offset for offset, at_ms in enumerate(told))
    assert told[-MAX_ENDS // 2 :] == list(range(count - MAX_ENDS // 2, count))


def test_where_the_log_ended_when_a_record_was_made_is_learnt_late_however_much_is_known() -> None:
    ends = LogEnds()
    for n in range(MAX_ENDS):
        ends.note(EVENTS, 1000 + n, 1000 + n)
    for offset in range(400, 500):
        ends.note(EVENTS, offset, offset)
        assert ends.current_to_ms(EVENTS, offset) == offset
    assert len(ends._ends[EVENTS]) <= MAX_ENDS
    assert ends.lag(EVENTS, 499) == 1000 + MAX_ENDS - 1 - 499
