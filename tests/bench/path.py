"""Runs of Tidings' own topology, whole or up to a stage, each on topics of its own, and what their results are held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import aiohttp

from app.settings import KafkaSettings
from app.streams.topics import create_topics
from tests.bench.broker import delete_topics, fill, read_back
from tests.bench.harness import PARTITIONS, BenchError, Harness, Measured, measured
from tests.bench.protocol import Assignment, Report
from tests.bench.receiver import HOOK, checksum_of
from tests.bench.systems import TIDINGS
from tests.bench.systems.tidings_path import Stage
from tests.bench.worker_settings import worker_settings
from tests.bench.workload import Record, ShopEvents
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: Two stages are jobs: the profile fold alone, and all of it.
JOBS = {"profile_fold": Stage.PROFILES, "full_path": Stage.DELIVERY}
#: Before this one there is no profile in a table to hold against the plain fold.
_NOT_STORED = (Stage.DECODE, Stage.FOLD)


@dataclass(frozen=True)
class PathRuns:
    """The same shop events for every run."""

    harness: Harness
    users: int
    events: int

    @cached_property
    def _events(self) -> ShopEvents:
        return ShopEvents(self.users, self.events, PARTITIONS)

    @cached_property
    def _records(self) -> list[Record]:
        return list(self._events.records())

    async def run(self, job: str, stage: Stage) -> Measured:
        """One run, checked. Raises BenchError."""
        harness, name = self.harness, self.harness.new_name(f"tidings-{stage}")
        data_dir = harness.directory / name
        settings = worker_settings(name=name, bootstrap_servers=harness.bootstrap_servers, partitions=PARTITIONS, data_dir=data_dir)
        topic = f"{name}.events.v1"
        await create_topics(KafkaSettings.model_validate(settings["kafka"]))
        await fill(harness.bootstrap_servers, topic, self._records)
        async with harness.receiver() as receiver_url:
            assignment = Assignment(
                name, job, harness.bootstrap_servers, topic, PARTITIONS, self.events, str(data_dir),
                stage=stage, webhook_url=receiver_url + HOOK,
            )
            report = await harness.run(TIDINGS.command, assignment)
            await self._check(stage, name, report, receiver_url)
        await delete_topics(harness.bootstrap_servers, name)
        return measured(job, self.users, TIDINGS.name, report)

    async def _check(self, stage: Stage, name: str, report: Report, receiver_url: str) -> None:
        if stage not in _NOT_STORED:
            await self.harness.check(f"{name}-profiles-changelog", "shop", self._events, self.events, report)
        elif report.events != self.events:
            raise BenchError(f"{name}: {report.events} of {self.events} events handled")
        if stage is Stage.DELIVERY:
            await check_deliveries(self.harness.bootstrap_servers, f"{name}-outbox-changelog", receiver_url)


async def check_deliveries(bootstrap_servers: str, outbox_topic: str, receiver_url: str) -> None:
    """Everyone's list is what the webhook got last: at its version, or at an earlier one that said the same. Raises BenchError."""
    outbox = await read_back(bootstrap_servers, outbox_topic)
    updates = {key.decode(): OutboxEntry.FromString(value).update for key, value in outbox.items()}
    async with aiohttp.ClientSession() as session, session.get(f"{receiver_url}/seen") as response:
        got = await response.json()
    versions, lists = got["versions"], got["lists"]
    wrong = sorted(updates.keys() ^ versions.keys())
    for user_id in updates.keys() & versions.keys():
        wanted = checksum_of(recommendation.product_id for recommendation in updates[user_id].recommendations)
        if lists[user_id] != wanted or versions[user_id] > updates[user_id].version:
            wrong.append(user_id)
    if wrong:
        raise BenchError(f"{outbox_topic}: {len(wrong)} of {len(updates)} users did not get their last list, {wrong[0]} for one")
