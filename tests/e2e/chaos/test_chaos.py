"""A short run of the chaos suite: a worker killed and then cut off, one paused past its session, a broker stopped. `make chaos` makes long
ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import on_apache_kafka
from tests.e2e.chaos.run import Plan, chaos_run
from tests.e2e.chaos.schedule import SHORT_KINDS

#: TIDINGS_CHAOS_SEED=7 is another schedule.
PLAN = Plan.short(int(os.environ.get("TIDINGS_CHAOS_SEED", "1")))


@pytest.mark.kafka
@pytest.mark.long
async def test_twelve_seconds_of_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    on_apache_kafka(tmp_path / "kafka")  # skips where there is neither Java nor Maven
    report = await chaos_run(tmp_path, PLAN)
    print(f"\n{report.timeline}\n{report}")
    assert report.faults.keys() == set(SHORT_KINDS)
