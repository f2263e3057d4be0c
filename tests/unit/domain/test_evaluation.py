"""Prequential evaluation: what is asked, what counts as a hit, and the bars on a real log."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from app.cli.logs import read_log
from app.domain.evaluation import LiveItems, evaluate_log
from app.domain.log_rows import LogRow
from app.domain.plain_fold import plain_fold
from tests.unit.domain.event_worlds import NOON_MS, viewed

BOLCOM_TOY = Path(__file__).parents[4] / "shared" / "data" / "bolcom_toy" / "events.parquet"


def ticking():
    ticks = count()
    return lambda: next(ticks) / 1000


def rows(*sessions: tuple[str, str, str]) -> list[LogRow]:
    """(user, session, products as letters), one after the other."""
    seen = [(user, session, item) for user, session, items in sessions for item in items]
    return [LogRow(NOON_MS + at * 1000, user, session, item, "view") for at, (user, session, item) in enumerate(seen)]


def test_a_pattern_that_repeats_is_guessed():
    log = rows(*((f"u{n}", f"s{n}", "abc") for n in range(50)))
    evaluation = evaluate_log(log, len(log), ticking())
    # 150 rows, the first 30 warm up; in each of the 40 sessions after them b and c are asked for.
    assert (evaluation.rows, evaluation.queries, evaluation.novel_queries, evaluation.session_start_queries) == (150, 80, 80, 0)
    assert evaluation.hr_at_20 == evaluation.novel_hr_at_20 == 1.0
    assert evaluation.mrr_at_20 > 0.5
    assert evaluation.session_start_hr_at_20 is None
    assert evaluation.coverage_at_20 == 1.0
    assert (evaluation.items, evaluation.users) == (3, 50)


def test_a_return_in_the_session_is_no_novel_target_and_filtered_lists_leave_room():
    log = rows(*((f"u{n}", f"s{n}", "aba") for n in range(50)))
    evaluation = evaluate_log(log, len(log), ticking())
    assert (evaluation.queries, evaluation.novel_queries) == (80, 40)
    assert evaluation.hr_at_20 == 1.0


def test_the_first_row_of_a_known_persons_session_is_asked_for_at_session_start():
    log = rows(("u", "s0", "abcdefgh"), ("u", "s1", "a"), ("v", "s2", "a"))
    evaluation = evaluate_log(log, len(log), ticking())
    assert (evaluation.session_start_queries, evaluation.session_start_hr_at_20) == (1, 1.0)


def test_without_sessions_in_the_log_half_an_hour_of_quiet_ends_one():
    log = [row._replace(session="") for row in rows(("u", "", "abcdefgh"))]
    log.append(LogRow(NOON_MS + 10**8, "u", "", "a", "view"))
    evaluation = evaluate_log(log, len(log), ticking())
    assert evaluation.session_start_queries == 1


def test_an_empty_log_answers_nothing_and_raises_nothing():
    evaluation = evaluate_log([], 0, ticking())
    assert (evaluation.rows, evaluation.hr_at_20, evaluation.query_p95_ms, evaluation.state_bytes) == (0, None, None, 0)


def test_times_are_taken_from_the_clock_that_was_passed():
    log = rows(*((f"u{n}", f"s{n}", "abc") for n in range(10)))
    evaluation = evaluate_log(log, len(log), ticking())
    assert evaluation.query_p95_ms == pytest.approx(1.0)
    assert evaluation.update_us == pytest.approx(1000.0)


def test_live_items_see_a_change_once_they_were_told_to_forget():
    tables = plain_fold([(0, 0, viewed("a", "e0")), (0, 1, viewed("b", "e1"))])
    live = LiveItems(tables)
    live.now_ms = NOON_MS
    assert live.neighbours("a")[1] == ["b"]
    tables.fold(viewed("c", "e2"), 0, 2)
    live.forget("a")
    assert live.neighbours("a")[1] == ["b", "c"]
    assert live.neighbours("nobody") is None


@pytest.mark.skipif(not BOLCOM_TOY.exists(), reason="the bol.com toy log is not beside the checkout (../shared/data/bolcom_toy)")
def test_the_recommender_meets_its_bars_on_the_bolcom_toy_log():
    pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    log = read_log(BOLCOM_TOY)
    assert len(log) == 116_285
    evaluation = evaluate_log(log, len(log), ticking())
    assert evaluation.hr_at_20 >= 0.655
    assert evaluation.mrr_at_20 >= 0.375
    assert evaluation.novel_hr_at_20 >= 0.48
    assert evaluation.coverage_at_20 >= 0.95
    assert evaluation.popularity_at_20 <= 0.20
    assert evaluation.item_bytes / evaluation.items <= 1_200
