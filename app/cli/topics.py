"""``tidings topics``: create the topics that are missing, or check the ones that exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

import click

from app.cli.output import print_json, print_table
from app.cli.settings_option import settings_options
from app.settings import Settings
from app.streams.topics import TopicFinding, check_topics, create_topics, require_sound

EPILOG = """
\b
Examples:
  tidings topics create --broker 127.0.0.1:9092
  tidings topics check --settings tidings.toml --json

The number of partitions (kafka.partitions) is fixed for the life of the data: choose at least four times the largest number of
workers. Topics that exist are never changed; a difference that Tidings cannot run with ends in exit code 1.
"""


@click.group(epilog=EPILOG)
def topics() -> None:
    """Create or check the topics in Kafka: events, visits, neighbours, updates, shares, dead letters and the tables' changelogs."""


@topics.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each finding.")
def create(settings: Settings, as_json: bool) -> None:
    """Create the topics that are missing, and check the others."""
    _report(asyncio.run(create_topics(settings.kafka)), as_json)


@topics.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each finding.")
def check(settings: Settings, as_json: bool) -> None:
    """Compare the topics with the settings; exit code 1 when Tidings cannot run on them."""
    _report(asyncio.run(check_topics(settings.kafka)), as_json)


def _report(findings: Sequence[TopicFinding], as_json: bool) -> None:
    if as_json:
        for finding in findings:
            print_json(asdict(finding))
    else:
        print_table(["topic", "finding", ""], [(finding.topic, finding.kind, finding.detail) for finding in findings])
    require_sound(findings)
