"""Where a source partition is read from after a take-over, and when that would lose events."""

from __future__ import annotations

import pytest

from app.engine.positions import start_position
from app.errors import StateError


def start(committed: int | None, applied: int, beginning: int, end: int | None = 100) -> int:
    return start_position("events/0", "profiles", committed=committed, applied=applied, beginning=beginning, end=end)


def test_reading_goes_on_at_what_was_committed_though_more_was_applied() -> None:
    """What followed from the records in between may not have been seen through."""
    assert start(committed=20, applied=33, beginning=0) == 20


def test_a_group_without_offsets_begins_at_what_retention_left_of_a_log_that_was_never_read() -> None:
    assert start(committed=None, applied=0, beginning=30) == 30


def test_records_that_retention_deleted_after_they_were_applied_are_not_missed() -> None:
    assert start(committed=20, applied=33, beginning=30) == 30


@pytest.mark.parametrize(
    ("committed", "applied", "beginning", "end", "said"),
    [
        (40, 33, 0, 100, "lost records"),
        (20, 20, 30, 100, "retention"),
        (20, 33, 0, 10, "deleted and made again"),
    ],
)
def test_what_would_lose_events_is_refused(committed: int, applied: int, beginning: int, end: int, said: str) -> None:
    with pytest.raises(StateError, match=said):
        start(committed, applied, beginning, end)


def test_the_end_is_not_asked_of_a_broker_whose_word_cannot_be_trusted() -> None:
    assert start(committed=20, applied=33, beginning=0, end=None) == 20
