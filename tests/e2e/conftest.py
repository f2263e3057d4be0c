"""What end-to-end tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet_bystander() -> Iterator[None]:
    """What the tests' own Kafka clients log while a broker is away would bury the workers' logs, which are what tells."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)
