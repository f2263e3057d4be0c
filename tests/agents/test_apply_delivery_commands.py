"""Operators' commands reach the outbox once, the deliverer is told when they are durable, and what is no command becomes a dead letter."""

from __future__ import annotations

import asyncio

from app.delivery import outbox
from app.streams.apply_delivery_commands import MAX_AT_ONCE, ApplyDeliveryCommands
from app.streams.publisher import partition_of
from app.streams.rank_users import OUTBOX
from tests.agents.worlds import NAMES, NOW_MS, Bench, DictState, Record, bad_record
from tests.unit.delivery.test_commands import command, confirmed, dead
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import OutboxEntry


class CommandsBench(Bench):
    def __init__(self, **entries: OutboxEntry) -> None:
        self.told: list[str] = []
        self.told_again: list[str] = []
        agent = ApplyDeliveryCommands(NAMES, 4, ["inbox"], self.told.extend, self.told_again.extend, lambda user, partitions: 0)
        super().__init__(agent.apply, DictState(OUTBOX))
        self.state.bytes_by_key |= {user.encode(): entry.SerializeToString() for user, entry in entries.items()}

    def entry(self, user: str) -> OutboxEntry:
        return self.state.get(user.encode())


def records(*commands: DeliveryCommand, first_offset: int = 0) -> list[Record]:
    return [
        Record(NAMES.delivery_commands, 0, offset, NOW_MS + 10**6, one.user_id.encode(), one.SerializeToString())
        for offset, one in enumerate(commands, first_offset)
    ]


async def test_whoever_was_given_up_is_due_again_and_the_deliverer_hears_of_it_once_it_is_durable() -> None:
    bench = CommandsBench(ann=dead(), bob=confirmed())
    unit = bench.feed(records(command("retry"), command("retry"), command("retry", user="bob")))
    assert outbox.is_due(outbox.delivery_of(bench.entry("ann"), "inbox"))
    assert bench.told == [], "the unit is not written yet"
    unit.done.set_result(None)
    await _others()
    assert bench.told == ["ann"]


async def test_who_is_sent_once_more_waits_for_those_with_something_new_and_who_is_dropped_is_told_to_nobody() -> None:
    bench = CommandsBench(ann=confirmed(), bob=dead(), cat=dead())
    unit = bench.feed(records(command("resync"), command("drop", user="bob"), command("resync", user="cat"), command("retry", user="cat")))
    unit.done.set_result(None)
    await _others()
    assert (bench.told, bench.told_again) == (["cat"], ["ann"])


async def test_many_who_are_tried_again_at_once_do_not_hold_up_those_with_something_new() -> None:
    users = [f"u{n}" for n in range(MAX_AT_ONCE + 1)]
    bench = CommandsBench(**{user: dead() for user in users})
    unit = bench.feed(records(*(command("retry", user=user) for user in users)))
    unit.done.set_result(None)
    await _others()
    assert (bench.told, bench.told_again) == ([], users)


async def test_a_unit_that_is_never_written_tells_nobody() -> None:
    bench = CommandsBench(ann=dead())
    unit = bench.feed(records(command("retry")))
    unit.done.set_exception(RuntimeError("fenced"))
    unit.done.exception()
    await _others()
    assert bench.told == bench.told_again == []


async def test_unknown_users_and_targets_are_not_written() -> None:
    bench = CommandsBench(ann=confirmed())
    before = bench.state.bytes_by_key[b"ann"]
    unit = bench.feed(records(command("resync", user="nobody"), command("resync", target="elsewhere")))
    unit.done.set_result(None)
    await _others()
    assert bench.state.bytes_by_key == {b"ann": before}
    assert bench.state.bytes_by_key[b"ann"] is before, "the very object: encoding it again makes another"
    assert not bench.dead_letters()
    assert bench.told == []


async def test_what_is_no_command_becomes_a_dead_letter_and_the_next_one_is_applied() -> None:
    bench = CommandsBench(ann=dead())
    noise = bad_record(b"\xff" * (1 << 20), 7, b"ann", NAMES.delivery_commands)
    bench.feed([noise, bad_record(None, 8, None, NAMES.delivery_commands), *records(command("retry"), first_offset=9)])
    first, second = bench.dead_letters()
    assert (first.topic, first.offset, first.reason) == (NAMES.delivery_commands, 7, DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE)
    assert (second.offset, second.field) == (8, "user_id")
    assert outbox.is_due(outbox.delivery_of(bench.entry("ann"), "inbox"))


async def test_a_command_in_another_partition_than_its_users_becomes_a_dead_letter() -> None:
    user = next(f"u{n}" for n in range(99) if partition_of(f"u{n}".encode(), 4) == 1)
    agent = ApplyDeliveryCommands(NAMES, 4, ["inbox"], lambda users: None, lambda users: None)
    bench = Bench(agent.apply, DictState(OUTBOX, number=0))
    bench.feed(records(command("retry", user=user)))
    assert [letter.field for letter in bench.dead_letters()] == ["user_id"]


async def test_a_command_that_was_applied_before_a_crash_is_not_applied_again() -> None:
    bench = CommandsBench(ann=confirmed())
    given = records(command("resync"))
    bench.feed(given)
    before = dict(bench.state.bytes_by_key)
    bench.feed([], replayed=given)
    assert bench.state.bytes_by_key == before


async def _others() -> None:
    """Let what waits for the unit run."""
    await asyncio.sleep(0)
