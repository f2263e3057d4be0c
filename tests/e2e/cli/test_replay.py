"""`tidings replay` puts every row of a log on the events topic once, in order per user, and stops cleanly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.streams.topics import TopicNames
from tidings.events.v1.event_pb2 import Event

from .conftest import Installation

ROWS = 5_000


def write_log(tmp_path: Path) -> Path:
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(json.dumps({"ts": 1_700_000_000 + n, "user": f"u{n % 97}", "item": f"i{n}"}) + "\n" for n in range(ROWS)))
    return file


def events_by_user(installation: Installation, enough: int = ROWS) -> dict[str, list[str]]:
    """Event ids by user, in order: all that stand there, or the first so many."""
    kafka = installation.settings.kafka

    async def read() -> dict[str, list[str]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100)
        await consumer.start()
        consumer.assign([TopicPartition(TopicNames.of(kafka).events, number) for number in range(kafka.partitions)])
        found: dict[str, list[str]] = {}
        while sum(map(len, found.values())) <= enough and (batch := await consumer.getmany(timeout_ms=1000)):
            for records in batch.values():
                for record in records:
                    event = Event.FromString(record.value)
                    found.setdefault(event.user_id, []).append(event.event_id)
        await consumer.stop()
        return found

    return asyncio.run(read())


def test_every_row_arrives_once_in_the_order_of_its_user(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    result = installation.tidings("replay", str(write_log(tmp_path)), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["acknowledged"] == ROWS
    found = events_by_user(installation)
    assert found == {f"u{user}": [f"shop-{n}" for n in range(user, ROWS, 97)] for user in range(97)}


def test_a_limit_and_a_rate_hold(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    result = installation.tidings("replay", str(write_log(tmp_path)), "--limit", "500", "--rate", "500", "--json")
    document = json.loads(result.stdout)
    assert document["acknowledged"] == 500
    assert 0.9 < document["seconds"] < 5


def test_ctrl_c_ends_it_with_what_was_acknowledged(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "replay", str(write_log(tmp_path)), "--rate", "100", "--json"],
        env={**os.environ, **installation.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    # Each step is acknowledged before the next one leaves: of twenty, the first is.
    while sum(map(len, events_by_user(installation, enough=0).values())) < 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    acknowledged = json.loads(printed)["acknowledged"]
    assert 0 < acknowledged < ROWS
    assert sum(map(len, events_by_user(installation).values())) >= acknowledged
