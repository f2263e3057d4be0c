"""The measurement of the catalog ends, however slow the worker is, and says what was not reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench.catalog import CatalogFigures, CatalogPlan, _Changes, _flowing, _Shelf, catalog_table, measure_catalog, missed_targets
from tests.bench.harness import BenchError

GOOD = CatalogFigures(
    products=200_000, load_seconds=29, load_cpu_us=126, worker_rss_mb=900, changes_per_second=5_000, change_cpu_us=140, changes_core=0.7,
    changes_sent_per_second=4_990, behind_seconds=0.3, probe_p50_ms=200, probe_max_ms=700, events_per_second=100, worker_core=0.9,
    burst_events_per_second=600, burst_events_per_second_with_changes=300, burst_shares=[0.5], burst_probe_p50_ms=200,
    burst_probe_max_ms=900, not_reached=[],
)  # fmt: skip


def test_a_target_that_is_missed_is_named_and_one_that_is_met_is_not() -> None:
    assert missed_targets(GOOD) == []
    assert "took 61 s" in missed_targets(replace(GOOD, load_seconds=61.0))[0]
    assert "only 4,000 of 5,000" in missed_targets(replace(GOOD, changes_sent_per_second=4_000.0))[0]
    assert "while events flow" in missed_targets(replace(GOOD, probe_max_ms=1_200.0))[0]
    assert "behind a backlog" in missed_targets(replace(GOOD, burst_probe_max_ms=7_000.0))[0]


def test_the_table_says_what_was_not_reached() -> None:
    said = list(catalog_table(replace(GOOD, not_reached=["5,000 changes/s: not kept up with"])).columns[0].cells)
    assert said[-1] == "NOT REACHED: 5,000 changes/s: not kept up with"


async def test_a_measurement_that_does_not_end_is_ended_and_its_last_step_is_named() -> None:
    @asynccontextmanager
    async def receiver() -> AsyncIterator[str]:
        await asyncio.sleep(3600)
        yield ""

    stuck: Any = SimpleNamespace(new_name=lambda system: system, receiver=receiver)
    with pytest.raises(BenchError, match=r"not measured within 0.05 s"):
        async with asyncio.timeout(5):
            await measure_catalog(stuck, CatalogPlan(max_seconds=0.05), lambda _: None)


class FallenBehind:
    """A worker whose copy of the catalog gets nothing any more, and a producer that takes everything."""

    def __init__(self) -> None:
        self.producer = self
        self.topic = "shop.events.v1"
        self.sent = 0

    async def metric(self, name: str) -> float:
        return 0.0

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> None:
        self.sent += 1

    def create_batch(self) -> Any:
        return SimpleNamespace(append=lambda **_: object())

    async def send_batch(self, *args: Any, **kwargs: Any) -> None:
        self.sent += 1


async def test_a_probe_that_is_late_ends_the_probes_and_what_flows_ends_with_them() -> None:
    behind: Any = FallenBehind()
    shelf = _Shelf(behind, behind, 0.05, lambda _: None)
    changes, probes, began = _Changes(behind, shelf.topic, CatalogPlan(changes_per_second=100)), [], time.monotonic()
    async with asyncio.timeout(5), _flowing(changes, shelf, probes, 0.05):
        pass
    assert probes == [0.05]
    assert shelf.count == 1, "one more probe would only wait longer"
    assert time.monotonic() - began < 2
