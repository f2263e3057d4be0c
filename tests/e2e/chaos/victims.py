"""Those who suffer a schedule: workers, with their ways to the brokers, disks and clocks, and the brokers. Each step is done and undone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import ExitStack, suppress
from functools import partial
from typing import assert_never

from aiokafka.errors import KafkaError

from tests.brokers.apache_kafka import ApacheKafka, SideDoor
from tests.e2e.chaos.links import Link
from tests.e2e.chaos.places import Clock, Disk, can_mount, can_set_clocks, wipe
from tests.e2e.chaos.schedule import NEWCOMER, WORKERS, Broker, Kind, Step
from tests.e2e.chaos.timeline import Timeline
from tests.e2e.fleet import Fleet
from tests.e2e.processes import Worker
from tests.e2e.waiting import until

NODES = 3
#: Until every partition has all its copies again, after a broker came back to a busy machine.
WHOLE_SECONDS = 90.0
#: A newcomer gets so long to be ready.
COMING_SECONDS = 20.0
#: To say what it owns, before something is done to it.
ANSWER_SECONDS = 0.5


def side_doors() -> dict[str, SideDoor]:
    """A way to the brokers for each worker, so that one can be cut off and the others not."""
    return {name: SideDoor.with_free_ports(f"WORKER{name.upper()}", NODES) for name in (*WORKERS, NEWCOMER)}


class Victims:
    """Made by ``Victims.of``."""

    def __init__(self, fleet: Fleet, kafka: ApacheKafka, timeline: Timeline) -> None:
        self.fleet = fleet
        self.workers: dict[str, Worker] = {}
        self._kafka = kafka
        self._timeline = timeline
        self._links: dict[str, Link] = {}
        self._disks: dict[str, Disk] = {}
        self._clocks: dict[str, Clock] = {}
        #: By worker, and one for all brokers: who takes longer to leave or to start than the schedule hoped is let finish first.
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def of(
        cls, fleet: Fleet, kafka: ApacheKafka, links: dict[str, Link], clocked: set[str], timeline: Timeline, disks: ExitStack
    ) -> Victims:
        """The workers, not started. ``clocked``: whose clock is to be changed. ``disks`` unmounts what is mounted."""
        victims = cls(fleet, kafka, timeline)
        for name, link in links.items():
            victims._links[name] = link
            environment = {"TIDINGS_KAFKA__BOOTSTRAP_SERVERS": link.bootstrap_servers}
            if name in clocked and can_set_clocks():
                clock = victims._clocks[name] = Clock(fleet.directory / f"clock-{name}")
                environment |= clock.environment
            worker = victims.workers[name] = fleet.new_worker(name, environment=environment)
            worker.on_exit = partial(victims._ended_by_itself, name)
            if can_mount() and (disk := Disk(worker.data_dir)).is_mounted:
                victims._disks[name] = disk
                disks.callback(disk.unmount)
        return victims

    @property
    def first(self) -> list[Worker]:
        """Those that are there from the start, and at the end."""
        return [self.workers[name] for name in WORKERS]

    async def suffer(self, step: Step) -> None:
        """Do it now, hold it, and undo it."""
        async with self._one_at_a_time["brokers" if step.is_of_broker else step.whom]:
            if step.is_of_broker:
                await self._suffer_broker(step)
            else:
                await self._suffer_worker(step, self.workers[step.whom])

    # Workers -----------------------------------------------------------------------------------------------------------

    async def _suffer_worker(self, step: Step, worker: Worker) -> None:
        if reason := self._impossible(step):
            self._timeline.note(f"{step}: left out, {reason}")
            return
        state = "" if step.kind is Kind.JOIN else f", {await self._state(worker)}"
        self._timeline.note(f"{step}{state}")
        self._timeline.done[step.kind] += 1
        match step.kind:
            case Kind.KILL:
                worker.kill()
            case Kind.LEAVE:
                await self._leave(worker)
                await asyncio.sleep(step.hold_seconds)
                await worker.start()
            case Kind.LOSE:
                await worker.kill_for_good()
                await asyncio.sleep(step.hold_seconds)
                wipe(worker.data_dir)
                await worker.start()
            case Kind.JOIN:
                await worker.start()
                with suppress(AssertionError):  # or it leaves while it is still coming
                    await until(worker.is_ready, COMING_SECONDS, f"worker {worker.name} ready")
                await asyncio.sleep(step.hold_seconds)
                await self._leave(worker)
            case Kind.PAUSE_SHORT | Kind.PAUSE_LONG:
                worker.pause()
                await asyncio.sleep(step.hold_seconds)
                worker.go_on()
            case Kind.CUT:
                self._links[step.whom].cut()
                await asyncio.sleep(step.hold_seconds)
                self._links[step.whom].heal()
            case Kind.BLACKHOLE:
                self._links[step.whom].swallow()
                await asyncio.sleep(step.hold_seconds)
                self._links[step.whom].heal()
            case Kind.DISK_FULL:
                await self._fill(self._disks[step.whom], step.hold_seconds)
            case Kind.CLOCK:
                self._clocks[step.whom].jump(step.amount)
                await asyncio.sleep(step.hold_seconds)
                self._clocks[step.whom].jump(0)
            case Kind.BROKER_STOP | Kind.BROKER_KILL | Kind.BROKER_PAUSE:
                raise AssertionError(f"{step.kind} is nothing that a worker suffers")
            case _:
                assert_never(step.kind)

    async def _state(self, worker: Worker) -> str:
        """What it was about; it runs when this is known, or a signal would reach nobody."""
        await until(lambda: worker.running, COMING_SECONDS, f"worker {worker.name} started again")
        try:
            owned = await asyncio.wait_for(worker.owned(), ANSWER_SECONDS)
        except TimeoutError:
            return "which does not answer"
        return f"which owns {', '.join(map(str, owned))}" if owned else "which owns nothing yet"

    def _ended_by_itself(self, name: str, code: int) -> None:
        self._timeline.note(f"{name}: ended by itself, exit code {code}, and is started again")

    def _impossible(self, step: Step) -> str:
        if step.kind is Kind.DISK_FULL and step.whom not in self._disks:
            return "for only root can mount a disk to fill"
        if step.kind is Kind.CLOCK and step.whom not in self._clocks:
            return "for it takes Linux and a C compiler"
        return ""

    async def _leave(self, worker: Worker) -> None:
        began = self._timeline.seconds
        code = await worker.terminate()
        self._timeline.note(f"{worker.name}: ended {self._timeline.seconds - began:.1f} s after SIGTERM, exit code {code}")

    async def _fill(self, disk: Disk, seconds: float) -> None:
        """Full at once, and again whenever something was removed meanwhile."""
        for _ in range(max(1, round(seconds / 0.5))):
            disk.fill()
            await asyncio.sleep(0.5)
        disk.clear()

    # Brokers -----------------------------------------------------------------------------------------------------------

    async def _suffer_broker(self, step: Step) -> None:
        node = await self._node(step)
        self._timeline.note(f"{step} (broker {node})")
        self._timeline.done[step.kind] += 1
        match step.kind:
            case Kind.BROKER_STOP:
                await asyncio.to_thread(self._kafka.stop_node, node)
            case Kind.BROKER_KILL:
                await asyncio.to_thread(self._kafka.kill, node)
            case _:
                self._kafka.pause(node)
        await asyncio.sleep(step.hold_seconds)
        if step.kind is Kind.BROKER_PAUSE:
            self._kafka.resume(node)
        else:
            await asyncio.to_thread(self._kafka.start_node, node)
        began = self._timeline.seconds
        await until(self._is_whole, WHOLE_SECONDS, f"every partition with all its copies, after broker {node} came back", every_seconds=0.5)
        self._timeline.note(f"broker {node}: all copies are there again, {self._timeline.seconds - began:.1f} s after it was back")

    async def _node(self, step: Step) -> int:
        """Which broker is meant, 0 to 2: the coordinator and leaders are asked for, and any is taken where nobody knows."""
        try:
            match Broker(step.whom):
                case Broker.COORDINATOR:
                    return await self.fleet.log.coordinator() - 1
                case Broker.LEADER:
                    leaders = await self.fleet.log.leaders()
                    return leaders.most_common(1)[0][0] - 1 if leaders else step.amount
                case Broker.ANY:
                    return step.amount
                case other:
                    assert_never(other)
        except (KafkaError, OSError):
            return step.amount

    async def _is_whole(self) -> bool:
        try:
            return await self.fleet.log.under_replicated() == 0
        except (KafkaError, OSError):
            return False
