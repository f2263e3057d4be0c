"""What a worker asks its group for, and how it lets go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faust.transport.consumer import Fetcher
from mode import Service

from app.engine.consumer import GroupConsumer
from app.settings import Settings
from app.streams.topics import TopicNames
from app.streams.topology import build

NAMES = TopicNames.of(Settings().kafka)
SOURCES = {NAMES.events, NAMES.visits, NAMES.neighbours, NAMES.delivery_commands, NAMES.products}


class Group(Service):  # Faust starts and stops it with the consumer
    """The thread of the membership, as far as it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: list[set[str]] = []

    async def subscribe(self, topics: Iterable[str]) -> None:
        self.subscriptions.append(set(topics))


class Member(GroupConsumer):
    def _new_consumer_thread(self) -> Any:
        return Group()


@pytest.fixture
def member(tmp_path: Path) -> Member:
    app = build(Settings(worker={"data_dir": tmp_path}), advertised_url="http://127.0.0.1:1", fail=lambda _: None).app
    return Member(app.transport, callback=lambda _: None, on_partitions_revoked=lambda _: None, on_partitions_assigned=lambda _: None)


async def test_the_group_is_joined_for_the_sources_and_the_changelogs_together(member: Member) -> None:
    topics = {*SOURCES, *NAMES.changelogs.values()}
    await member.subscribe(topics)
    assert member._thread.subscriptions == [topics]


@pytest.mark.parametrize("some", [SOURCES, set(NAMES.changelogs.values()), {*SOURCES, *NAMES.changelogs.values()} - {NAMES.visits}, set()])
async def test_the_group_is_not_joined_for_some_of_them(member: Member, some: set[str]) -> None:
    """As by a worker that is stopped while it starts: others would get the changelogs of the sources that it is given, and stop."""
    await member.subscribe(some)
    assert member._thread.subscriptions == []


async def test_a_worker_that_is_told_to_end_in_the_middle_of_a_rebalance_ends_in_order(member: Member) -> None:
    """Faust took it for a crash: the connection to the group was closed under the last commit."""
    app = member.app
    app.consumer, app.rebalancing = member, True
    fetcher = Fetcher(app)
    await fetcher.start()
    await asyncio.sleep(0.05)
    await fetcher.stop()
    assert not fetcher.crashed
