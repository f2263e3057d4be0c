"""A worker that was paused past its session and wakes up changes nothing that another worker owns by then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.zombie_runs import zombie_run

#: TIDINGS_ZOMBIE_SEEDS=10 makes ten runs of some 90 s each.
SEEDS = int(os.environ.get("TIDINGS_ZOMBIE_SEEDS", "1"))


@pytest.mark.kafka
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
async def test_paused_workers_that_wake_up_lose_and_double_nothing(apache_kafka: ApacheKafka, tmp_path: Path, seed: int) -> None:
    await zombie_run(apache_kafka.bootstrap_servers, tmp_path, seed)
