"""Each test of this folder runs on the embedded broker and on Apache Kafka, with topics of its own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.settings import Settings, load_settings


@dataclass(frozen=True)
class Installation:
    """A broker, settings with a topic prefix of the test's own, and the command line over them."""

    settings: Settings
    environment: dict[str, str]
    is_embedded: bool

    def tidings(self, *arguments: str, stdin: str | None = None) -> Result:
        environment = {"TIDINGS_SETTINGS": None, **self.environment}
        return CliRunner().invoke(cli, list(arguments), prog_name="tidings", env=environment, input=stdin)


#: For a test of what only Apache Kafka does.
on_kafka_alone = pytest.mark.parametrize("installation", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True)


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)])
def installation(request: pytest.FixtureRequest) -> Installation:
    is_embedded = request.param == "embedded"
    broker = request.getfixturevalue("embedded_broker" if is_embedded else "apache_kafka")
    return _installation(broker.bootstrap_servers, is_embedded)


def _installation(bootstrap_servers: str, is_embedded: bool) -> Installation:
    name = f"t{uuid.uuid4().hex[:8]}"
    kafka = {
        "bootstrap_servers": bootstrap_servers,
        "application_id": name,
        "topic_prefix": name,
        "partitions": 3,
        "allow_unfenced": is_embedded,
    }
    environment = {f"TIDINGS_KAFKA__{key.upper()}": str(value) for key, value in kafka.items()}
    return Installation(load_settings(overrides={"kafka": kafka}), environment, is_embedded)

