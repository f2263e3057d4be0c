"""confluent-kafka and RocksDB with nothing between: what somebody would write who needs no framework. The state and how far it goes are one
write, so that it is exact on this disk; there is no changelog, so that it is lost with the disk.
"""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, TopicPartition
from rocksdict import Options, Rdict, WriteBatch

from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event, write_state

_BATCH_EVENTS = 1000
#: Where the offsets are, among the users.
_OFFSET = b"__offset-"


def open_store(path: str) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    return Rdict(path, options)


def main() -> None:
    run, watch = Assignment.read(), Stopwatch()
    store = open_store(run.data_dir)
    consumer = Consumer({"bootstrap.servers": run.bootstrap_servers, "group.id": run.name, "enable.auto.commit": False})

    def offset_of(partition: int) -> int:
        stored = store.get(_OFFSET + str(partition).encode())
        return int(stored) if stored else 0

    consumer.assign([TopicPartition(run.topic, partition, offset_of(partition)) for partition in range(run.partitions)])
    handled, positions = 0, dict[int, int]()
    while handled < run.events:
        messages = consumer.consume(_BATCH_EVENTS, timeout=1.0)
        if not messages:
            continue
        watch.start()
        states: dict[bytes, UserState] = {}
        for message in messages:
            if error := message.error():
                raise KafkaException(error)
            key = message.key()
            if (state := states.get(key)) is None:
                stored = store.get(key)
                state = states[key] = UserState() if stored is None else UserState.FromString(stored)
            apply_event(state, UserEvent.FromString(message.value()))
            positions[message.partition()] = message.offset() + 1
        batch = WriteBatch(raw_mode=True)
        for key, state in states.items():
            batch.put(key, state.SerializeToString())
        for partition, offset in positions.items():
            batch.put(_OFFSET + str(partition).encode(), str(offset).encode())
        store.write(batch)
        handled += len(messages)
    store.flush_wal(True)
    report = watch.report(handled, positions)
    write_state(run.state_file, ((key, value) for key, value in store.items() if not key.startswith(_OFFSET)))
    report.print()


if __name__ == "__main__":
    main()
