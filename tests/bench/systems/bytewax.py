"""Bytewax as its documentation has it: a stateful map over messages of Kafka, with recovery on and its default interval of snapshots."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax._bytewax import cli_main  # what `python -m bytewax.run` calls
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir

from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event, write_state
from tests.bench.systems.committed import end_positions

#: The default of `python -m bytewax.run`.
_SNAPSHOT_INTERVAL = timedelta(seconds=10)
_LAST_OF_EACH_KEY = """
select state_key, ser_change from snaps as one where step_id like '%users%' and ser_change is not null and snap_epoch =
  (select max(snap_epoch) from snaps as other where other.step_id = one.step_id and other.state_key = one.state_key)
"""


def dataflow(run: Assignment, watch: Stopwatch) -> Dataflow:
    flow = Dataflow("state_per_user")
    messages = op.input("events", flow, KafkaSource([run.bootstrap_servers], [run.topic], tail=False))

    def keyed(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, bytes]:
        watch.start()
        return message.key.decode(), message.value

    def update(state: UserState | None, value: bytes) -> tuple[UserState, list[str]]:
        state = state or UserState()
        apply_event(state, UserEvent.FromString(value))
        return state, []  # the state is what is wanted, nothing follows

    nothing = op.stateful_flat_map("users", op.map("keyed", messages, keyed), update)
    op.output("nothing", nothing, StdOutSink())
    return flow


def recovered_states(directory: Path) -> Iterator[tuple[bytes, bytes]]:
    """What a restart would begin with."""
    for file in directory.glob("*.sqlite3"):
        with sqlite3.connect(file) as database:
            for key, pickled in database.execute(_LAST_OF_EACH_KEY):
                yield key.encode(), pickle.loads(pickled).SerializeToString()


def main() -> None:
    run, watch = Assignment.read(), Stopwatch()
    directory = Path(run.data_dir)
    directory.mkdir()
    init_db_dir(directory, 1)
    cli_main(dataflow(run, watch), epoch_interval=_SNAPSHOT_INTERVAL, recovery_config=RecoveryConfig(directory))  # ends with the topic
    report = watch.report(run.events, {})
    report.positions.update({str(partition): offset for partition, offset in end_positions(run).items()})
    write_state(run.state_file, recovered_states(directory))
    report.print()


if __name__ == "__main__":
    main()
