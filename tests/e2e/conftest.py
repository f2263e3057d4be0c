"""What end-to-end tests share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import Fleet, fleet_on


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Any:
    """Either broker; its ``bootstrap_servers`` are what tests want of it."""
    return request.getfixturevalue("embedded_broker" if request.param == "embedded" else "apache_kafka")


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka)])
async def fleet(apache_kafka: ApacheKafka, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers on Apache Kafka: on the embedded broker a worker takes ten seconds to join its group."""
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _quiet_bystander() -> Iterator[None]:
    """What the tests' own Kafka clients log while a broker is away would bury the workers' logs, which are what tells."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)
