"""`tidings replay` sends each event once, no event before it is due, and says what is wrong with a log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.cli.logs import EventLog, read_log
from app.cli.replay import Pace, due_sizes


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Ten events, one a second."""
    file = tmp_path / "log.csv"
    file.write_text("ts,user,item\n" + "".join(f"{1_700_000_000 + n},u{n},i\n" for n in range(10)))
    return read_log(file)


def sizes_at(log: EventLog, pace: Pace, *elapsed_seconds: float) -> list[int]:
    """What is due when it is asked at these times, and then long after."""
    clock: Iterator[float] = iter([*elapsed_seconds, *[1e9] * 5])
    return list(due_sizes(log, pace, lambda: next(clock)))


def test_at_real_time_an_event_is_due_when_its_time_has_come(log: EventLog) -> None:
    assert sizes_at(log, Pace(speed=1.0), 0, 0.5, 1, 3.9, 9) == [1, 0, 1, 2, 6]


def test_at_a_speed_time_runs_faster(log: EventLog) -> None:
    assert sizes_at(log, Pace(speed=2.0), 0, 0.5, 4.5) == [1, 1, 8]


def test_at_a_rate_so_many_are_due(log: EventLog) -> None:
    assert sizes_at(log, Pace(rate=4.0), 0, 1, 1.1, 100) == [1, 4, 0, 5]


def test_the_slower_of_speed_and_rate_holds(log: EventLog) -> None:
    assert sizes_at(log, Pace(speed=1.0, rate=2.0), 1, 2.5) == [2, 1, 7]


def test_every_event_is_due_once_however_late_it_is_asked(log: EventLog) -> None:
    assert sum(sizes_at(log, Pace(rate=0.001))) == 10


@pytest.mark.parametrize("options", [["--speed", "0"], ["--speed", "nan"], ["--speed", "soon"], ["--rate", "0"], ["--limit", "0"]])
def test_a_pace_that_cannot_be_kept_is_wrong_usage(log: EventLog, tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(cli, ["replay", str(tmp_path / "log.csv"), *options])
    assert result.exit_code == 2


def test_a_log_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("ts,user,item\n1700000000,ada,x\nlater,ada,x\n")
    result = CliRunner().invoke(cli, ["replay", str(file)], env={"TIDINGS_SETTINGS": None})
    assert result.exit_code == 1
    assert "bad.csv: line 3, column 'ts'" in result.output


def test_a_log_that_is_not_there_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["replay", "/nowhere.csv"]).exit_code == 2
