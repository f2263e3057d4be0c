"""Prequential evaluation: what is asked, what counts as a hit, and the bars on a real log."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from app.cli.logs import read_log
from app.domain.evaluation import FOR_YOU, Contestant, Evaluation, LiveItems
from app.domain.evaluation import evaluate_log as evaluate_all
from app.domain.log_rows import LogRow
from app.domain.plain_fold import plain_fold
from app.domain.strategies import STRATEGIES
from app.streams.publisher import partition_of
from tests.unit.domain.event_worlds import NOON_MS, viewed

BOLCOM_TOY = Path(__file__).parents[4] / "shared" / "data" / "bolcom_toy" / "events.parquet"


def evaluate_log(log, row_count, clock, **options) -> Evaluation:
    [evaluation] = evaluate_all(log, row_count, clock, **options).values()
    return evaluation


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
    assert list(live.neighbours("a")[1]) == ["b"]
    tables.fold(viewed("c", "e2"), 0, 2)
    live.forget("a")
    assert list(live.neighbours("a")[1]) == ["b", "c"]
    assert live.neighbours("nobody") is None


def test_strategies_stand_side_by_side_by_name_and_do_not_touch_each_other():
    log = rows(*((f"u{n}", f"s{n}", "abc") for n in range(50)))
    alone = evaluate_log(log, len(log), ticking())
    both = evaluate_all(log, len(log), ticking(), [FOR_YOU, Contestant("trending", STRATEGIES["trending"])])
    assert list(both) == ["for_you", "trending"]
    assert replace(both["for_you"], update_us=0.0, query_p95_ms=0.0) == replace(alone, update_us=0.0, query_p95_ms=0.0)
    assert both["trending"].queries == alone.queries


def test_frozen_at_a_row_it_asks_from_there_learns_nothing_of_products_and_profiles_unfold():
    learned = rows(*((f"u{n}", f"s{n}", "ab") for n in range(20)))
    tested = [row._replace(ts_ms=row.ts_ms + 10**6) for row in rows(*((f"v{n}", f"t{n}", "axbx") for n in range(20)))]
    frozen = evaluate_log(learned + tested, 120, ticking(), frozen_from=40)
    # Of a session a x b x, x is asked for after a, and b after a x, and x again: as a return. What follows x was never learned.
    assert (frozen.rows, frozen.queries, frozen.novel_queries, frozen.items) == (120, 60, 40, 2)
    assert (frozen.novel_hr_at_20, frozen.hr_at_20) == (0.5, pytest.approx(2 / 3))
    assert evaluate_log(learned + tested, 120, ticking()).items == 3
    assert (frozen.hr_at_20_by_part[5], frozen.hr_at_20_by_part[-1]) == (None, pytest.approx(0.8))  # the last part has 2 rows of a session


def by_letter(user_id: str) -> int:
    return ord(user_id[-1]) % 4


def test_sharded_lists_come_from_what_the_items_answered_to_the_person():
    log = rows(*((f"u{n}", f"s{n}", "abc") for n in range(50)))
    sharded = Contestant("fleet", STRATEGIES["for_you"], is_sharded=True)
    evaluations = evaluate_all(log, len(log), ticking(), [FOR_YOU, sharded], home=by_letter)
    assert evaluations["fleet"].hr_at_20 == evaluations["for_you"].hr_at_20 == 1.0
    assert (evaluations["fleet"].questions > 0, evaluations["for_you"].questions) == (True, 0)
    assert evaluations["fleet"].held_bytes > evaluations["for_you"].held_bytes == 0


def test_sharded_and_frozen_the_items_answer_as_they_stood():
    log = rows(*((f"u{n}", f"s{n}", "abc") for n in range(20)), *((f"v{n}", f"t{n}", "abz") for n in range(20)))
    sharded = [Contestant("fleet", STRATEGIES["for_you"], is_sharded=True)]
    evaluation = evaluate_log(log, len(log), ticking(), contestants=sharded, home=by_letter, frozen_from=60)
    assert (evaluation.queries, evaluation.hr_at_20) == (40, 0.5)


@pytest.mark.long
def test_the_recommender_meets_its_bars_on_the_bolcom_toy_log_and_a_fleet_comes_within_half_a_point():
    """The whole log, learned once, asked by one process and as a fleet would."""
    if not BOLCOM_TOY.exists():
        pytest.skip("the bol.com toy log is not beside the checkout (../shared/data/bolcom_toy)")
    pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    log = read_log(BOLCOM_TOY)
    assert len(log) == 116_285
    contestants = [FOR_YOU, Contestant("fleet", STRATEGIES["for_you"], is_sharded=True)]
    evaluated = evaluate_all(log, len(log), ticking(), contestants, home=lambda user_id: partition_of(user_id.encode(), 4))
    alone, fleet = evaluated["for_you"], evaluated["fleet"]
    assert alone.hr_at_20 >= 0.655
    assert alone.mrr_at_20 >= 0.375
    assert alone.novel_hr_at_20 >= 0.48
    assert alone.coverage_at_20 >= 0.95
    assert alone.popularity_at_20 <= 0.20
    assert alone.item_bytes / alone.items <= 1_200
    for measure in ("hr_at_20", "mrr_at_20", "novel_hr_at_20"):
        assert getattr(fleet, measure) >= getattr(alone, measure) - 0.005, measure
    assert fleet.questions / fleet.rows <= 1.25, "a second hop costs little more than a question an event"
