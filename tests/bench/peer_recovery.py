"""How soon the bare job is back in Tidings and in peers that recover: with its local directory (warm) and without it (cold).

A system works through the events and is killed (SIGKILL) once its group has committed them. When the group has forgotten it, some more
events are written and it is started again: what counts are the seconds from the start of the program until it has handled these and they
are durable. So a start of Python or of Java is part of it, and the group's wait for who was killed is not. The session timeout is six
seconds in every system, so that the measurement does not wait for longer ones.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from rich.table import Table

from tests.bench.broker import create_topic, delete_topics, fill
from tests.bench.harness import PARTITIONS, BenchError, Harness, report_of
from tests.bench.protocol import Assignment, Report
from tests.bench.systems import System
from tests.bench.workload import BareEvents

SESSION_SECONDS = 6
_BARE = "state_per_user"
#: Events that come after a kill.
_NEW_EVENTS = 200
#: A system that is given so many never says that it is done.
_NEVER = 1 << 40
#: Faust acknowledges an event when it takes the next one: the last of each partition may be open.
_MAY_BE_OPEN = PARTITIONS
_SEED_SECONDS, _RETURN_SECONDS, _COMMIT_SECONDS = 240.0, 180.0, 10.0


@dataclass(frozen=True)
class PeerRecoveryPlan:
    """``quiet_seconds`` beyond the session timeout before a killed system is started again."""

    systems: Sequence[str] = ("tidings", "naive_faust", "quix_streams_at_least_once", "kafka_streams_exactly_once")
    users: int = 100_000
    events: int = 100_000
    quiet_seconds: float = 2.0


@dataclass(frozen=True)
class CameBack:
    system: str
    users: int
    events: int
    warm_seconds: float
    cold_seconds: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass
class PeerRecovery:
    """A measurement for each system in turn, each over a topic of its own."""

    harness: Harness
    plan: PeerRecoveryPlan

    async def of(self, system: System, say: Callable[[str], None]) -> CameBack:
        """Raises BenchError."""
        name = self.harness.new_name(f"back-{system.name}")
        data_dir = self.harness.directory / f"{name}-state"
        workload = BareEvents(self.plan.users, self.plan.events + 4 * _NEW_EVENTS, PARTITIONS)
        records = workload.records()
        await create_topic(self.harness.bootstrap_servers, topic := f"{name}-input", PARTITIONS)

        def run(events: int) -> Assignment:
            return Assignment(
                name, _BARE, self.harness.bootstrap_servers, topic, PARTITIONS, events, str(data_dir),
                state_file=str(self.harness.directory / f"{name}.state"), session_seconds=SESSION_SECONDS,
            )

        async def add(count: int) -> None:
            await fill(self.harness.bootstrap_servers, topic, islice(records, count))

        try:
            await add(self.plan.events)
            say(f"{system.name}: {self.plan.events:,} events, then SIGKILL")
            await self._work_until_committed(system, run(_NEVER), self.plan.events)
            await self._group_forgets()
            await add(_NEW_EVENTS)
            say(f"{system.name}: warm")
            warm = await self._seconds_to_return(system, run(_NEW_EVENTS), self.plan.events + _NEW_EVENTS)
            await self._group_forgets()
            shutil.rmtree(data_dir, ignore_errors=True)
            await add(_NEW_EVENTS)
            say(f"{system.name}: cold")
            cold = await self._seconds_to_return(system, run(_NEW_EVENTS), 0)
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
            await delete_topics(self.harness.bootstrap_servers, name)
        return CameBack(system.name, self.plan.users, self.plan.events, warm, cold)

    async def _group_forgets(self) -> None:
        await asyncio.sleep(SESSION_SECONDS + self.plan.quiet_seconds)

    async def _work_until_committed(self, system: System, run: Assignment, events: int) -> None:
        path = run.write(self.harness.directory / f"{run.name}.json")
        async with self.harness.process((*system.command, str(path)), run.name) as process:
            deadline = time.monotonic() + _SEED_SECONDS
            while await self._committed(run.name) < events - _MAY_BE_OPEN:
                if process.returncode is not None or time.monotonic() > deadline:
                    raise BenchError(f"{run.name} did not commit {events:,} events: {self.harness.log_tail(run.name)}")
                await asyncio.sleep(0.25)
            await asyncio.sleep(1.0)

    async def _seconds_to_return(self, system: System, run: Assignment, committed: int) -> float:
        """``committed``: events that the group is to have committed before the system is killed again."""
        path, began = run.write(self.harness.directory / f"{run.name}.json"), time.monotonic()
        async with self.harness.process((*system.command, str(path)), run.name) as process:
            try:
                async with asyncio.timeout(_RETURN_SECONDS):
                    report: Report = await report_of(process)
            except (TimeoutError, EOFError):
                raise BenchError(f"{run.name} did not come back: {self.harness.log_tail(run.name)}") from None
            seconds = time.monotonic() - began - float(report.extra.get("close_seconds", 0.0))
            with suppress(TimeoutError):
                async with asyncio.timeout(_COMMIT_SECONDS):
                    while committed and await self._committed(run.name) < committed - _MAY_BE_OPEN:  # noqa: ASYNC110  # Kafka has no Event
                        await asyncio.sleep(0.25)
        return seconds

    async def _committed(self, group: str) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.harness.bootstrap_servers)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(group)
            return sum(found.offset for found in offsets.values() if found.offset > 0)
        except Exception:  # before the group is there, the coordinator is not either
            return 0
        finally:
            await admin.close()


def peer_recovery_table(found: Sequence[CameBack]) -> Table:
    table = Table(title="The bare job, from the start of the program to new events handled", title_justify="left", title_style="bold")
    for heading in ("system", "users", "warm s", "cold s"):
        table.add_column(heading)
    for one in found:
        table.add_row(one.system, f"{one.users:,}", f"{one.warm_seconds:.1f}", f"{one.cold_seconds:.1f}")
    return table
