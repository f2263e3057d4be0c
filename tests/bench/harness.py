"""Runs one system at a time on a core of its own, with the broker and this harness on another, and checks what it has made."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from tests.bench.broker import create_topic, delete_topics, fill, read_back
from tests.bench.protocol import RESULT, Assignment, Report, read_state
from tests.bench.systems import Kept, System
from tests.bench.worker_settings import ENVIRONMENT
from tests.bench.workload import BareEvents, Digest, Workload

PARTITIONS = 4
#: No run takes longer: the slowest system handles its events in a minute.
RUN_SECONDS = 240.0
_STOP_SECONDS = 10.0
#: A system whose last change may not be durable yet when it says so is looked at once more after so long.
_LATE_SECONDS = 3.0
_LOG_TAIL_CHARS = 3_000


class BenchError(Exception):
    """A run that gave no figure: the system ended, took too long, or came to another result than the plain fold."""


@dataclass(frozen=True)
class Cores:
    """Where things run. With a single core, or where cores cannot be chosen, nothing is pinned and figures mean little."""

    system: frozenset[int]
    broker: frozenset[int]
    pinned: bool

    @classmethod
    def of_this_machine(cls) -> Cores:
        if not hasattr(os, "sched_getaffinity"):
            return cls(frozenset(), frozenset(), False)
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return cls(frozenset(cores), frozenset(cores), False)
        return cls(frozenset(cores[:1]), frozenset(cores[1:2]), True)

    def pin_this_process(self) -> None:
        """With all its children to come: the broker, and what feeds it."""
        if self.pinned:
            os.sched_setaffinity(0, self.broker)

    def all(self) -> frozenset[int]:
        return self.system | self.broker

    def for_system(self) -> Callable[[], None] | None:
        """What a system's process does before it becomes the system."""
        return partial(os.sched_setaffinity, 0, self.system) if self.pinned else None


@dataclass(frozen=True)
class Measured:
    """One run whose result was found right."""

    job: str
    users: int
    system: str
    events: int
    events_per_second: float
    cpu_us_per_event: float
    peak_rss_bytes: int
    extra: dict[str, Any]


class Harness:
    """``directory`` is for logs and the systems' local data; it may be removed afterwards. ``broker_pids`` tells who is the broker."""

    def __init__(
        self, bootstrap_servers: str, cores: Cores, directory: Path, broker_pids: Callable[[], Sequence[int]] = tuple
    ) -> None:
        self.broker_pids = broker_pids
        self.bootstrap_servers = bootstrap_servers
        self.cores = cores
        self.directory = directory
        self._runs = 0
        self._ends: dict[str, dict[int, int]] = {}
        self._expected: dict[tuple[str, tuple[tuple[int, int], ...]], Digest] = {}

    def new_name(self, system: str) -> str:
        self._runs += 1
        return f"bench-{self._runs}-{system.replace('_', '-')}"

    async def prepare(self, topic: str, workload: Workload) -> None:
        """Make a topic and fill it."""
        await create_topic(self.bootstrap_servers, topic, workload.partitions)
        self._ends[topic] = await fill(self.bootstrap_servers, topic, workload.records())

    async def run_bare(self, system: System, job: str, topic: str, workload: BareEvents, users: int) -> Measured:
        """One run of the bare job over a prepared topic. Raises BenchError.

        A system that may say too early that it is done can lose its last change when it is stopped: that run does not count, and is made
        once more.
        """
        try:
            return await self._run_bare_once(system, job, topic, workload, users)
        except BenchError:
            if not system.may_be_late:
                raise
            return await self._run_bare_once(system, job, topic, workload, users)

    async def _run_bare_once(self, system: System, job: str, topic: str, workload: BareEvents, users: int) -> Measured:
        events = sum(self._ends[topic].values())
        name = self.new_name(system.name)
        events = min(events, system.max_events or events)
        assignment = Assignment(
            name, job, self.bootstrap_servers, topic, workload.partitions, events, str(self.directory / name),
            state_file=str(self.directory / f"{name}.state"),
        )
        try:
            report = await self.run(system.command, assignment)
            try:
                await self._check_bare(system, assignment, workload, report)
            except BenchError:
                if not system.may_be_late:
                    raise
                await asyncio.sleep(_LATE_SECONDS)
                await self._check_bare(system, assignment, workload, report)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(assignment.state_file)
            await delete_topics(self.bootstrap_servers, name)
        return measured(job, users, system.name, report)

    async def _check_bare(self, system: System, run: Assignment, workload: BareEvents, report: Report) -> None:
        match system.kept:
            case Kept.CHANGELOG:
                state_topic = system.state_topic.format(name=run.name, topic=run.topic)
                await self.check(state_topic, run.topic, workload, run.events, report, system.user_of_key)
            case Kept.FILE:
                self._check_state(run.name, read_state(Path(run.state_file)), run.topic, workload, run.events, report)
            case Kept.NOTHING:
                seen, expected = report.extra.get("occurred_at_ms"), workload.occurred_at_ms()
                if report.events != run.events or seen != expected:
                    raise BenchError(f"{run.name} saw {report.events} of {run.events} events, their times sum up to {seen}, not {expected}")
            case _:
                assert_never(system.kept)

    async def check(
        self, state_topic: str, topic: str, workload: Workload, events: int, report: Report,
        user_of_key: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """The state, read back from where it is durable, against the plain fold of the same events. Raises BenchError."""
        state = await read_back(self.bootstrap_servers, state_topic)
        if user_of_key is not None:
            state = {user_of_key(key): value for key, value in state.items()}
        self._check_state(state_topic, state, topic, workload, events, report)

    def _check_state(
        self, where: str, state: Mapping[bytes, bytes], topic: str, workload: Workload, events: int, report: Report
    ) -> None:
        positions = {int(partition): offset for partition, offset in report.positions.items()}
        if report.events != events or sum(positions.values()) != events:
            raise BenchError(f"{where}: {report.events} of {events} events handled, up to {positions}")
        known = topic, tuple(sorted(positions.items()))
        if known not in self._expected:
            self._expected[known] = workload.expected(positions)
        found = workload.digest(state)
        if found != self._expected[known]:
            raise BenchError(f"{where} holds {found}, the plain fold gives {self._expected[known]}")

    async def run(self, command: tuple[str, ...], assignment: Assignment) -> Report:
        """Start a system, wait for its report, end it. Raises BenchError with the end of its log."""
        name = assignment.name
        path = assignment.write(self.directory / f"{name}.json")
        async with self.process((*command, str(path)), name) as process:
            try:
                async with asyncio.timeout(RUN_SECONDS):
                    return await report_of(process)
            except TimeoutError:
                raise BenchError(f"{name} gave no result within {RUN_SECONDS:g} s:\n{self.log_tail(name)}") from None
            except EOFError:
                raise BenchError(f"{name} ended with code {await process.wait()} and no result:\n{self.log_tail(name)}") from None

    @asynccontextmanager
    async def process(self, command: tuple[str, ...], name: str, *, measured: bool = True) -> AsyncIterator[asyncio.subprocess.Process]:
        """A child that is killed at the end, on the system's core if it is what is measured; its log and local data are called ``name``."""
        with (self.directory / f"{name}.log").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors,
                preexec_fn=self.cores.for_system() if measured else None, env={**os.environ, **ENVIRONMENT},
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            shutil.rmtree(self.directory / name, ignore_errors=True)

    @asynccontextmanager
    async def receiver(self) -> AsyncIterator[str]:
        """A webhook receiver beside the broker; gives its address."""
        command = (sys.executable, "-m", "tests.bench.receiver")
        async with self.process(command, "receiver", measured=False) as process:
            assert process.stdout is not None
            if not (line := await process.stdout.readline()):
                raise BenchError(f"the webhook receiver ended:\n{self.log_tail('receiver')}")
            yield f"http://127.0.0.1:{int(line)}"

    def log_tail(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-_LOG_TAIL_CHARS:]


def measured(job: str, users: int, system: str, report: Report) -> Measured:
    return Measured(
        job, users, system, report.events, report.events / report.seconds, report.cpu_seconds / report.events * 1e6, report.peak_rss_bytes,
        report.extra,
    )


async def report_of(process: asyncio.subprocess.Process) -> Report:
    """Raises EOFError when the program ends without one."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(RESULT.encode()):
            return Report(**json.loads(line[len(RESULT) :]))
    raise EOFError
