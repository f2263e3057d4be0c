"""Figures of a run come from the workers' logs and from what was done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.e2e.chaos.schedule import Kind
from tests.e2e.chaos.timeline import Report, Timeline, ends_of, generations_of, listed
from tests.e2e.exactness import Verdict

_LOG_OF_A = """2026-11-22 10:26:03,930 INFO app.engine.recovery: generation 2: own partitions [0, 3], standby for [], recovered in 3.8 s
2026-11-22 10:26:53,183 CRITICAL tidings: stopped: Exception('IO error: /tmp/1/000004.log: full'). The supervisor should start this again.
2026-11-22 10:26:58,183 CRITICAL tidings: stopped: Exception('IO error: /tmp/1/000007.log: full'). The supervisor should start this again.
2026-11-22 10:27:51,440 INFO app.engine.recovery: generation 4: own partitions [0, 1], standby for [], recovered in 1.3 s
"""


def test_generations_are_counted_once_and_recoveries_by_worker(tmp_path: Path) -> None:
    one, other = tmp_path / "a.log", tmp_path / "b.log"
    one.write_text(_LOG_OF_A)
    other.write_text("INFO app.engine.recovery: generation 4: own partitions [2, 3], standby for [], recovered in 1.0 s\n")
    assert generations_of([one, other, tmp_path / "never started.log"]) == (2, 3)


def test_ends_for_the_same_cause_are_counted_together(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(_LOG_OF_A)
    ends = ends_of([log, tmp_path / "never started.log"])
    assert list(ends.values()) == [2]
    assert "IO error" in listed(ends)


def test_a_report_counts_both_ways_of_killing_and_of_pausing() -> None:
    verdict = Verdict(10, 10, 0, 0, 1, 1, 1, 4, deliveries=12)
    done = Counter({Kind.KILL: 2, Kind.LOSE: 1, Kind.PAUSE_SHORT: 1, Kind.BROKER_PAUSE: 4})
    report = Report(7, "a log", verdict, done, 3, 9, Counter({70: 2}), Counter({"full": 2}), 61.2, "")
    figures = report.figures()
    assert (figures["kills"], figures["pauses"], figures["brokers stopped, killed, paused"], figures["ends by themselves"]) == (3, 1, 4, 2)
    assert "seed 7 over a log: exact" in str(report)
    assert "70: 2" in str(report)
    assert "2 x full" in str(report)


def test_a_time_line_counts_from_its_beginning_and_tells_what_was_before() -> None:
    timeline = Timeline()
    timeline.begin("it begins")
    timeline.note("later")
    assert [line.strip() for line in str(timeline).splitlines()] == [
        "0.0 s  it begins, 0 s after the brokers were told to start",
        "0.0 s  later",
    ]


def test_a_time_line_keeps_its_order() -> None:
    timeline = Timeline()
    timeline.note("one")
    timeline.note("two")
    assert [line.split()[-1] for line in str(timeline).splitlines()] == ["one", "two"]
