"""Faust as its documentation has it: an agent that updates a RocksDB table, event by event. No setting is tuned, none is made worse."""

from __future__ import annotations

import asyncio

import faust

from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event


def make_app(run: Assignment) -> faust.App:
    app = faust.App(
        run.name, broker=f"kafka://{run.bootstrap_servers}", store="rocksdb://", topic_partitions=run.partitions, datadir=run.data_dir,
        web_enabled=False,  # its port may be taken; it costs nothing per event
        **session_of(run),
    )
    topic = app.topic(run.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", partitions=run.partitions)
    users = app.Table("users", key_type=bytes, value_type=bytes, partitions=run.partitions, options={"driver": "rocksdict"})
    watch, positions = Stopwatch(), dict[int, int]()

    @app.agent(topic)
    async def count(stream: faust.StreamT) -> None:
        handled = 0
        async for event in stream.events():
            watch.start()
            state = UserState()
            if (stored := users.get(event.key)) is not None:
                state.ParseFromString(stored)
            apply_event(state, UserEvent.FromString(event.value))
            users[event.key] = state.SerializeToString()
            positions[event.message.partition] = event.message.offset + 1
            handled += 1
            if handled == run.events:
                await app.producer.flush()  # the changelog has acknowledged everything
                watch.report(handled, positions).print()
                await asyncio.Event().wait()  # handle no more; the harness ends the process

    return app


def session_of(run: Assignment) -> dict[str, float]:
    """Faust's own but where the recovery of all systems is compared."""
    return {"broker_session_timeout": run.session_seconds, "broker_heartbeat_interval": 1.0} if run.session_seconds else {}


if __name__ == "__main__":
    faust.Worker(make_app(Assignment.read()), loglevel="info", redirect_stdouts=False).execute_from_commandline()
