"""What stands still is found and told, and what waits for somebody outside is not taken for it."""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.engine.commit import Committer, Unit, Unwritten
from app.engine.fence import Appended
from app.engine.progress import works_of
from app.engine.watchdog import Judge, Watchdog, Work
from app.errors import StandstillError
from tests.unit.engine.worlds import DictDatabase, state_over

#: A loop under a watchdog of one second; its first argument is what it does once the watchdog has looked.
SCRIPT = """
import asyncio, os, re, sys, time
from app.engine.watchdog import Watchdog

def fail(exc):
    print(exc, flush=True)
    os._exit(70)

async def main():
    dog = asyncio.ensure_future(Watchdog(1.0, lambda: (), fail, broker_answers=None).run())
    await asyncio.sleep(0.3)
    print("looked", flush=True)
    deep_in_some_call()
    await asyncio.sleep(2)
    print("lives", flush=True)

def deep_in_some_call():
    exec(sys.argv[1])

asyncio.run(main())
"""


def work(position: object = 0, *, owed: bool = True, name: str = "write", **more: Any) -> Work:
    return Work(name, position, owed, "batches are not written", **more)  # type: ignore[arg-type]  # any hashable


# The judge --------------------------------------------------------------------------------------------------------------


def test_what_is_owed_and_does_not_move_for_the_limit_stands_still() -> None:
    judge = Judge(30)
    assert judge.look([work()], 0) == []
    assert judge.look([work()], 29.9) == []
    assert judge.look([work()], 30) == [work()]


def test_what_moves_or_is_not_owed_or_was_excused_is_counted_from_then() -> None:
    judge = Judge(30)
    for now, seen in ((0, work()), (29, work(1)), (58, work(1, owed=False)), (87, work(1))):
        assert judge.look([seen], now) == []
    judge.excuse(work(1), 87)
    assert judge.look([work(1)], 116) == []
    assert judge.look([work(1)], 117) == [work(1)]


def test_patience_is_granted_beyond_the_limit_and_a_work_that_is_gone_is_forgotten() -> None:
    judge = Judge(30)
    judge.look([work(patience_seconds=60)], 0)
    assert judge.look([work(patience_seconds=60)], 89) == []
    assert judge.look([work(patience_seconds=60)], 90)
    judge.look([], 91)
    assert judge.look([work()], 200) == []


# A loop in a process of its own -------------------------------------------------------------------------------------------


@contextmanager
def loop_that_does(what: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "looked\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_loop_that_is_blocked_is_ended_with_the_stacks_of_all_threads_in_the_log() -> None:
    began = time.monotonic()
    with loop_that_does("time.sleep(60)") as process:
        said, log = process.communicate(timeout=20)
    assert process.returncode == 70
    assert time.monotonic() - began < 10
    assert "the event loop has not gone round for 1 s" in said
    assert "in deep_in_some_call" in log, "where it is blocked"


def test_a_process_that_was_paused_for_longer_than_the_limit_goes_on() -> None:
    with loop_that_does("pass") as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        said, log = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "lives\n"), log


# What it looks at ---------------------------------------------------------------------------------------------------------


class Writer:
    """``wait_seconds``: for how long a write waits for the broker. Nothing is ever acknowledged."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = wait_seconds

    def oldest_wait_seconds(self) -> float:
        return self.wait_seconds

    async def write_batch(self, *_: Any) -> Appended:
        await asyncio.Event().wait()
        raise AssertionError


class StuckEngine:
    """As much of an EngineApp as is looked at: one partition, whose committer has something to write and never ends."""

    def __init__(self, *, write_waits: float = 0.0, heartbeat: float = 0.0) -> None:
        table: Any = SimpleNamespace(name="profiles", changelog_topic_name="changelog", store=SimpleNamespace(databases=list))
        self.writer = Writer(write_waits)
        state = state_over(DictDatabase())
        self.committer = Committer(table, state, self.writer, lambda _: None)  # type: ignore[arg-type]  # a writer that stands in
        self.committer.start()
        state.obtain(b"a").added.append(1)
        self.committer.submit(Unit(state))
        self.committers = {("profiles", 0): self.committer}
        self.tables: Any = Tables({"profiles": table})
        self.sources = {"events": table}
        self.unwritten = Counter({TP("events", 0): 1})
        self.steps: Counter[str] = Counter()
        self.followed: Counter[int] = Counter()
        self.unwritten_bytes = Unwritten(10)
        self.reader = None
        self.rebalancing = False
        self.conf = SimpleNamespace(broker_heartbeat_interval=3.0, broker_rebalance_timeout=30.0)
        self.consumer = SimpleNamespace(seconds_since_heartbeat=lambda: heartbeat, next_commits=lambda: [(TP("events", 0), 7, False)])


class Tables(dict[str, Any]):
    recovery = SimpleNamespace(in_recovery=False, actives={0})


async def ends_within(engine: StuckEngine, seconds: float) -> str:
    """What a watchdog of 0.4 s says of it; empty when it lets it be."""
    failures: list[BaseException] = []
    dog = Watchdog(0.4, lambda: works_of(engine), failures.append, broker_answers=answers(True), leave=lambda: None)
    task = asyncio.ensure_future(dog.run())
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await engine.committer.stop()
    assert all(isinstance(failure, StandstillError) for failure in failures)
    return " ".join(map(str, failures))


def answers(yes: bool) -> Any:
    async def broker_answers(_: TP) -> bool:
        return yes

    return broker_answers


async def test_a_committer_that_is_stuck_is_found_and_named() -> None:
    assert "what was applied to partition 0 of table profiles is not written" in await ends_within(StuckEngine(), 5)


@pytest.mark.parametrize("engine", [{"write_waits": 4.0}, {"heartbeat": math.inf}], ids=["slow broker", "absent broker"])
async def test_a_broker_that_is_away_or_takes_no_writes_is_no_standstill(engine: dict[str, float]) -> None:
    assert await ends_within(StuckEngine(**engine), 1.5) == ""


async def test_a_committer_that_writes_is_let_be() -> None:
    engine = StuckEngine()

    async def write() -> None:
        while True:
            engine.committer.written += 1
            await asyncio.sleep(0.05)

    writing = asyncio.ensure_future(write())
    assert await ends_within(engine, 1.5) == ""
    writing.cancel()


async def test_of_a_fetch_that_brings_nothing_the_leader_is_asked_first() -> None:
    """A partition without a leader is fetched by nobody; with one, it is us."""
    for leader_is_there, expected in ((False, 0), (True, 1)):
        failures: list[BaseException] = []
        fetch = work(place=TP("events", 0))
        dog = Watchdog(
            0.3, lambda fetch=fetch: [fetch], failures.append, broker_answers=answers(leader_is_there), leave=lambda: None
        )  # fmt: skip
        task = asyncio.ensure_future(dog.run())
        await asyncio.wait({task}, timeout=1.2)
        task.cancel()
        assert len(failures) == expected


async def test_an_agent_that_makes_no_step_is_found_and_one_that_is_busy_with_other_partitions_is_let_be() -> None:
    for goes_on in (True, False):
        engine = StuckEngine()
        engine.committer._idle.set()
        steps = asyncio.ensure_future(_step(engine, goes_on))
        said = await ends_within(engine, 1.5)
        steps.cancel()
        assert ("1 batches of events/0 are with their agent" in said) is not goes_on


async def test_an_agent_that_waits_for_the_writes_of_others_is_let_be() -> None:
    engine = StuckEngine()
    engine.committer._idle.set()
    engine.unwritten_bytes.add(10)
    assert await ends_within(engine, 1.5) == ""


async def _step(engine: StuckEngine, goes_on: bool) -> None:
    while goes_on:
        engine.steps["events"] += 1
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("followed", [True, False])
async def test_a_batch_whose_users_wait_behind_many_others_is_let_be_while_those_are_ranked(followed: bool) -> None:
    engine, judge, still = StuckEngine(), Judge(30), dict[str, float]()
    await engine.committer.stop()
    engine.committers, engine.unwritten = {}, Counter()
    for second in range(0, 4000, 2):
        for found in judge.look(works_of(engine), second):
            still.setdefault(found.name, second)
        engine.followed[0] += followed
    waits = {"see through events/0": 90} if not followed else {}
    assert still == waits | {"let go events/0": 3630}, "one batch that is never let go is found in the end"
