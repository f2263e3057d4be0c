"""How old the tables of a new owner are, by what it was told of the log that they follow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from app.engine.source_log import SourceLog, source_logs

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


EVENTS, VISITS, QUIET = TP("events", 0), TP("visits", 0), TP("products", 0)


class LogReader:
    """Of three logs, that may say nothing of the records of one."""

    def __init__(self, silent: TP | None = None) -> None:
        self._silent = silent
        self._positions = dict.fromkeys(self.assignment(), 0)
        self._paused: set[Any] = set()

    def assignment(self) -> set[Any]:
        return {TopicPartition(*tp) for tp in (EVENTS, VISITS, QUIET)}

    async def beginning_offsets(self, places: Iterable[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 3)

    async def end_offsets(self, places: Iterable[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 9)

    def pause(self, *places: Any) -> None:
        self._paused |= set(places)

    def seek(self, place: Any, offset: int) -> None:
        self._positions[place] = offset

    async def getmany(self, *places: Any, timeout_ms: int) -> dict[Any, list[Any]]:
        assert not self._paused & set(places)
        for place in places:
            if place != self._silent:
                return {place: [SimpleNamespace(offset=n, timestamp=100 * n) for n in range(self._positions[place], 9)]}
        await asyncio.sleep(timeout_ms / 1000)
        return {}


async def test_of_logs_that_go_on_the_next_records_are_looked_at_from_the_committed_offset_or_the_beginning() -> None:
    logs = await source_logs(LogReader(), {EVENTS: 7, VISITS: None, QUIET: 9})  # type: ignore[arg-type]  # as much as is asked of it
    assert {tp: log.made for tp, log in logs.items()} == {
        EVENTS: [(7, 700), (8, 800)], VISITS: [(n, 100 * n) for n in range(3, 9)], QUIET: (),
    }  # fmt: skip
    assert {(log.beginning, log.end) for log in logs.values()} == {(3, 9)}


async def test_records_that_do_not_come_are_not_waited_for_long() -> None:
    logs = await source_logs(LogReader(silent=EVENTS), {EVENTS: 7, VISITS: 8}, first_made_seconds=0.05)  # type: ignore[arg-type]
    assert (logs[EVENTS].made, logs[VISITS].made) == ((), [(8, 800)])
    assert logs[EVENTS].end == 9
