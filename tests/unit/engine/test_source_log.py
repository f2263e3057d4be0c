"""How old the tables of a new owner are, by what it was told of the log that they follow."""

from __future__ import annotations

import pytest

from app.engine.source_log import SourceLog

MADE = [(10, 1000), (11, 1100), (13, 1300)]


@pytest.mark.parametrize(
    ("applied", "known"),
    [(10, (10, 1000)), (11, (11, 1100)), (12, (12, 1300)), (13, (13, 1300)), (40, (13, 1300))],
)
def test_what_comes_next_was_not_in_the_log_before_it_was_made(applied: int, known: tuple[int, int]) -> None:
    """What nobody is shown (12: a transaction's marker) is passed over; where one fetch did not reach as far, its last record counts."""
    assert SourceLog(0, 50, 9000, MADE).ends(applied) == [(50, 9000), known]


def test_of_an_end_that_cannot_be_trusted_nothing_is_told() -> None:
    assert SourceLog(0, None, 9000, MADE).ends(10) == [(10, 1000)]
    assert SourceLog(0, None, 9000).ends(10) == []


def test_a_record_that_claims_to_be_of_the_future_was_made_until_now() -> None:
    assert SourceLog(0, None, 9000, [(10, 99_000)]).ends(10) == [(10, 9000)]
