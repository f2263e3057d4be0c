"""Tidings: the bare job on the engine alone; the profile jobs on its own topology (tidings_path.py)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import faust
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.engine import Codec, EngineApp, EngineOptions, Table, Unit
from app.settings import WorkerSettings
from app.worker import look_for_cycles_seldom
from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event
from tests.bench.systems.naive_faust import session_of
from tests.bench.systems.tidings_path import run_path

#: Numbers alone: nothing of what is replaced stays behind.
USERS = Codec[UserState](UserState.FromString, UserState.SerializeToString, lambda _: UserState(), wears=False)


def make_app(run: Assignment, fail: Callable[[BaseException], None]) -> EngineApp:
    app = EngineApp(
        run.name, options=EngineOptions(run.bootstrap_servers), worker_name="bench", datadir=run.data_dir,
        topic_partitions=run.partitions, fail=fail, **session_of(run),
    )
    users = app.tables.add(Table(app, name="users", codec=USERS, partitions=run.partitions, cache_bytes=WorkerSettings().cache_bytes))
    watch, positions, acknowledged = Stopwatch(), dict[int, int](), 0

    def count(unit: Unit[UserState]) -> None:
        watch.start()
        parse, obtain = UserEvent.FromString, unit.state.obtain
        for record in unit.records():
            apply_event(obtain(record.key), parse(record.value))
            positions[unit.partition] = record.offset + 1
        unit.done.add_done_callback(lambda done: written(unit.taken) if done.exception() is None else None)

    def written(events: int) -> None:
        nonlocal acknowledged
        acknowledged += events
        if acknowledged == run.events:
            watch.report(acknowledged, positions).print()

    app.batched_agent("count", users, [run.topic], count)
    return app


def run_bare_job(run: Assignment) -> None:
    asyncio.run(_create_changelog(run))
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = make_app(run, _stop)
    look_for_cycles_seldom()
    faust.Worker(app, loglevel="info", redirect_stdouts=False, loop=loop).execute_from_commandline()


async def _create_changelog(run: Assignment) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=run.bootstrap_servers)
    await admin.start()
    try:
        configs = {"cleanup.policy": "compact", "max.message.bytes": str(8 * 1024**2)}
        await admin.create_topics([NewTopic(f"{run.name}-users-changelog", run.partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


def _stop(error: BaseException) -> None:
    print(f"stopped: {error!r}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    assignment = Assignment.read()
    run_bare_job(assignment) if assignment.job == "state_per_user" else run_path(assignment)
