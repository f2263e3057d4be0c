"""A month of a shop's clicks through one worker ends in the tables that a plain fold of the same file gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.embedded_broker import EmbeddedBroker
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import BOLCOM, fleet_on

ROWS = 116_285
SOME = 15_000

pytestmark = pytest.mark.skipif(not BOLCOM.exists(), reason=f"the event log {BOLCOM} is not on this machine")


@pytest.mark.kafka
async def test_every_event_of_a_month_is_applied_on_apache_kafka(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path) as fleet:
        await fleet.start("a")
        replay = await fleet.replay(BOLCOM, speed="max")
        assert (await replay.done())["acknowledged"] == ROWS
        verdict = await fleet.exact(ROWS)
        assert (verdict.applied, verdict.duplicates, verdict.dead_letters) == (ROWS, 0, 0)


@pytest.mark.embedded
@pytest.mark.long
async def test_every_event_of_some_days_is_applied_on_the_embedded_broker(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with fleet_on(embedded_broker.bootstrap_servers, tmp_path, is_embedded=True) as fleet:
        await fleet.start("a")
        replay = await fleet.replay(BOLCOM, limit=SOME, speed="max")
        assert (await replay.done())["acknowledged"] == SOME
        verdict = await fleet.exact(SOME)
        assert (verdict.applied, verdict.duplicates, verdict.dead_letters) == (SOME, 0, 0)
