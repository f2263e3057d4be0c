"""A short run of the chaos suite, of every kind of fault that fits into it; `make chaos` makes long ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import on_apache_kafka
from tests.e2e.chaos.run import Plan, chaos_run

#: 158 s on two cores under a load of 15, most of it starting things. TIDINGS_CHAOS_SEED=7 is another schedule.
PLAN = Plan(int(os.environ.get("TIDINGS_CHAOS_SEED", "1")), seconds=20, events_per_second=250)


@pytest.mark.kafka
@pytest.mark.long
async def test_twenty_seconds_of_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    on_apache_kafka(tmp_path / "kafka")  # skips where there is neither Java nor Maven
    report = await chaos_run(tmp_path, PLAN)
    print(f"\n{report.timeline}\n{report}")
    assert sum(report.faults.values()) > 0
