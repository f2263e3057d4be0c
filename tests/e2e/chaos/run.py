"""One run: three brokers, three workers and an inbox, a log that is replayed into them, and a seeded schedule of faults; at the end all
tables must equal the plain fold of the log, and the inbox the outbox.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.chaos.links import Link
from tests.e2e.chaos.schedule import SHORT_KINDS, SHORT_SECONDS, Kind, Step, schedule, short_schedule
from tests.e2e.chaos.timeline import Report, Timeline, ends_of, generations_of, listed
from tests.e2e.chaos.victims import NODES, Victims, side_doors
from tests.e2e.fleet import BOLCOM, Fleet, Replay, fleet_on
from tests.e2e.invented_log import write_invented_log
from tests.e2e.waiting import until

ONLINE_RETAIL = BOLCOM.parents[1] / "online_retail" / "events.parquet"
#: By turns; where they are not at hand, one is invented.
LOGS = (ONLINE_RETAIL, BOLCOM)
#: All are to be at work within this, at the start and after the last fault.
HEALED_SECONDS = 120.0


#: The log goes on while faults do, which may be late: with brokers that come back slowly, for this many times as long as planned at most.
MAX_LATE = 6
#: What a request to the inbox may take: on a machine with more processes than cores, a few seconds are soon over.
INBOX_SECONDS = 10
#: What no run lives to see.
NEVER_SECONDS = 600


@dataclass(frozen=True)
class Plan:
    """What a run is made of; with the seed it decides everything but how fast the machine is."""

    seed: int
    seconds: float = 60
    events_per_second: int = 300
    kinds: Collection[Kind] = tuple(Kind)
    is_short: bool = False

    @classmethod
    def short(cls, seed: int) -> Plan:
        """Of a run of four faults."""
        return cls(seed, SHORT_SECONDS, 120, SHORT_KINDS, is_short=True)

    @property
    def steps(self) -> Sequence[Step]:
        return short_schedule(self.seed) if self.is_short else schedule(self.seed, self.seconds, self.kinds)

    @property
    def events(self) -> int:
        """At least so many."""
        return int(self.seconds * self.events_per_second)

    @property
    def log(self) -> Path | None:
        log = LOGS[self.seed % len(LOGS)]
        return log if log.exists() else None

    @property
    def standby_replicas(self) -> int:
        return self.seed // len(LOGS) % 2

    @property
    def shares_are_published(self) -> bool:
        """Where they are not, every list can be ranked once more at the end, and must come out the same."""
        return self.seed // len(LOGS) // 2 % 2 == 1

    def __str__(self) -> str:
        log = self.log.parent.name if self.log else "an invented log"
        shares = "published" if self.shares_are_published else "kept back"
        faults = f"{len(self.steps)} faults within {self.seconds:g} s, {self.events_per_second} events/s of {log}"
        return f"{faults}, {self.standby_replicas} standby replicas, shares {shares}"


async def chaos_run(directory: Path, plan: Plan) -> Report:
    """Raises AssertionError when it does not end in the tables of a plain fold, or the inbox in the last lists; the time line and the ends
    of all logs are notes of whatever is raised.
    """
    timeline, doors = Timeline(), side_doors()
    logs = [directory / "fleet" / f"worker-{name}.log" for name in doors]
    kafka = ApacheKafka(directory / "kafka", NODES, side_doors=list(doors.values()), quick=True)
    try:
        async with AsyncExitStack() as stack:
            # Before the brokers start: until then nobody else has taken these ports.
            links = {name: await stack.enter_async_context(Link(door.advertised_ports, door.ports)) for name, door in doors.items()}
            stack.callback(kafka.stop)
            disks = stack.enter_context(ExitStack())  # unmounted when nobody works there any more
            await asyncio.to_thread(kafka.start)
            fleet = await stack.enter_async_context(
                fleet_on(
                    kafka.bootstrap_servers, directory / "fleet", timeout_seconds=INBOX_SECONDS,
                    kafka={"replication_factor": NODES, "min_insync_replicas": 2},
                    worker={"standby_replicas": plan.standby_replicas},
                    ranking={"share_interval_seconds": 1 if plan.shares_are_published else NEVER_SECONDS},
                )
            )
            clocked = {step.whom for step in plan.steps if step.kind is Kind.CLOCK}
            return await _run(plan, fleet, Victims.of(fleet, kafka, links, clocked, timeline, disks), timeline)
    except BaseException as error:
        error.add_note(f"what workers ended for:\n{listed(ends_of(logs))}\nwhat was done until then:\n{timeline}")
        raise


async def _run(plan: Plan, fleet: Fleet, victims: Victims, timeline: Timeline) -> Report:
    for worker in victims.first:
        await worker.start()
    await fleet.shared_among(*victims.first, seconds=HEALED_SECONDS, each_has_some=False)
    most = MAX_LATE * plan.events
    log = plan.log or write_invented_log(fleet.directory / "invented.jsonl", most)
    replay = await fleet.replay(log, limit=most, rate=plan.events_per_second)
    await fleet.until_applied(1, HEALED_SECONDS)
    timeline.begin("the first event is seen through")
    try:
        async with asyncio.TaskGroup() as group:
            for step in plan.steps:
                group.create_task(_at_its_time(victims, step, timeline))
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    timeline.note("no more faults")
    await fleet.shared_among(*victims.first, seconds=HEALED_SECONDS, each_has_some=False)
    timeline.note("the three workers own all partitions")
    events = await _end_of(replay, fleet, plan)
    timeline.note(f"the last of {events:,} events is written")
    clocks_were_right = not timeline.done[Kind.CLOCK]
    await fleet.settled(events, clocks_were_right=clocks_were_right)
    timeline.note("all of them are seen through, and nobody is due at the inbox")
    verdict = await fleet.exact(events, clocks_were_right=clocks_were_right)
    assert (verdict.applied, verdict.duplicates, verdict.dead_letters) == (events, 0, 0)
    timeline.note(f"exact: all tables are the plain fold of the {events:,} events, everyone has the last list")
    logs = [worker.log for worker in fleet.workers]
    rebalances, recoveries = generations_of(logs)
    return Report(
        plan.seed, log.parent.name if plan.log else "an invented log", verdict, timeline.done, rebalances, recoveries,
        Counter(code for worker in fleet.workers for code in worker.exits), ends_of(logs), timeline.seconds, str(timeline),
    )


async def _end_of(replay: Replay, fleet: Fleet, plan: Plan) -> int:
    """Events that stand on their topic, now that all has healed; none that was acknowledged is missing."""
    await until(lambda: _written(fleet, plan.events), HEALED_SECONDS, f"{plan.events} events written")
    summary = await replay.finish()
    await asyncio.sleep(1)  # a broker may still be appending what was sent last
    events = await _written(fleet)
    assert events >= summary["acknowledged"], f"{events} events on the topic, {summary['acknowledged']} were acknowledged"
    return events


async def _written(fleet: Fleet, at_least: int = 0) -> int:
    """How many events stand on their topic, once there are so many; else 0."""
    events = sum(await fleet.log.ends(fleet.names.events))
    return events if events >= at_least else 0


async def _at_its_time(victims: Victims, step: Step, timeline: Timeline) -> None:
    await asyncio.sleep(step.at_seconds - timeline.seconds)
    await victims.suffer(step)
