"""Ten thousand malformed messages among good ones: each is named as what it is, and changes nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from app.streams.publisher import partition_of
from tests.e2e.exactness import Verdict
from tests.e2e.fleet import BOLCOM, Fleet
from tests.e2e.invented_log import write_invented_log
from tidings.events.v1.event_pb2 import Event, ProductViewed
from tidings.internal.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

GOOD = 5_000
#: Just below what a broker takes by default, key and headers included.
NOISE_BYTES = 1_000_000
#: Of each so many messages one is noise of that size.
NOISE_EVERY = 500

INVALID = DeadLetterReason.DEAD_LETTER_REASON_INVALID
UNKNOWN_PAYLOAD = DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD
#: Field 1007, which no version has.
UNKNOWN_FIELD = b"\xfa\x3e\x03new"


class Malformed(NamedTuple):
    """A record, and the reason and field that its dead letter must name; None where the bytes are left to chance."""

    key: bytes | None
    value: bytes | None
    reason: int | None
    field: str | None
    #: Sent to the partition after its key's.
    is_astray: bool = False


def good(number: int, **fields: object) -> Event:
    """A valid event, of a person whom the month's log knows too."""
    at_ms = 1_591_000_000_000 + number
    event = Event(event_id=f"m-{number}", user_id=f"t{number % 97}", occurred_at_ms=at_ms, product_viewed=ProductViewed(product_id="1"))
    for name, value in fields.items():
        setattr(event, name, value)
    return event


def malformed_records(count: int, seed: int) -> Iterator[Malformed]:
    """All kinds in turn, each with chance in it."""
    chance = random.Random(seed)
    day_after_tomorrow_ms = int(time.time() * 1000) + 2 * 86_400_000
    for number in range(count):
        event = good(number)
        key = event.user_id.encode()
        if number % NOISE_EVERY == 0:
            yield Malformed(key, chance.randbytes(NOISE_BYTES), None, None)
            continue
        match number % 10:
            case 0:
                yield Malformed(key, chance.randbytes(chance.randint(1, 300)), None, None)
            case 1:
                whole = event.SerializeToString()
                yield Malformed(key, whole[: chance.randint(1, len(whole) - 1)], None, None)
            case 2:
                event.ClearField("payload")  # type: ignore[arg-type]  # the oneof's name is taken at run time
                yield Malformed(key, event.SerializeToString() + UNKNOWN_FIELD, UNKNOWN_PAYLOAD, "payload")
            case 3:
                yield Malformed(key, good(number, event_id=chance.choice(["", "x" * 129, "a\nb"])).SerializeToString(), INVALID, "event_id")
            case 4:
                user = chance.choice(["", "y" * 257, "__share", "__owner", "\x00"])
                yield Malformed(user.encode(), good(number, user_id=user).SerializeToString(), INVALID, "user_id")
            case 5:
                at_ms = chance.choice([0, -1, 5, 10**18, -(2**63), 2**63 - 1, day_after_tomorrow_ms])
                yield Malformed(key, good(number, occurred_at_ms=at_ms).SerializeToString(), INVALID, "occurred_at_ms")
            case 6:
                yield Malformed(chance.choice([b"somebody-else", b"", b"\xff\xfe"]), event.SerializeToString(), INVALID, "user_id")
            case 7:
                is_astray = chance.random() < 0.5
                yield Malformed(key if is_astray else None, event.SerializeToString(), INVALID, "user_id", is_astray)
            case 8:
                event.product_viewed.product_id = chance.choice(["", "p" * 129, "__offset"])
                yield Malformed(key, event.SerializeToString(), INVALID, "product_viewed.product_id")
            case _:
                yield Malformed(key, chance.choice([b"", None]), INVALID, "event_id")


async def publish_malformed(fleet: Fleet, count: int) -> dict[tuple[int, int], Malformed]:
    """Send them as any client could, and return them by partition and offset."""
    kafka, topic = fleet.settings.kafka, fleet.names.events
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_request_size=2 * NOISE_BYTES)
    await producer.start()
    places: dict[tuple[int, int], Malformed] = {}
    try:
        records = list(malformed_records(count, seed=7))
        for start in range(0, count, 200):
            sent = []
            for m in records[start : start + 200]:
                partition = (partition_of(m.key or b"", kafka.partitions) + 1) % kafka.partitions if m.is_astray else None
                sent.append((m, await producer.send(topic, key=m.key, value=m.value, partition=partition)))
            for malformed, acknowledged in sent:
                metadata = await acknowledged
                places[metadata.partition, metadata.offset] = malformed
    finally:
        await producer.stop()
    return places


async def _told_apart(fleet: Fleet, count: int) -> Verdict:
    """The good are applied while ``count`` malformed ones become dead letters that say why, where and what."""
    await fleet.start("a")
    log = BOLCOM if BOLCOM.exists() else write_invented_log(fleet.directory / "invented.jsonl", GOOD)
    replay = await fleet.replay(log, limit=GOOD, rate=GOOD / 8)
    places = await publish_malformed(fleet, count)
    await replay.done()
    verdict = await fleet.exact(GOOD + count)
    assert (verdict.applied, verdict.dead_letters, verdict.exits) == (GOOD, count, 0)
    letters = {(letter.partition, letter.offset): letter for r in fleet.log.dead_letters for letter in [DeadLetter.FromString(r.value)]}
    assert letters.keys() == places.keys()
    for place, malformed in places.items():
        letter = letters[place]
        assert (letter.topic, letter.key, letter.value) == (fleet.names.events, malformed.key or b"", malformed.value or b"")
        assert letter.detail
        if malformed.reason is not None:
            assert (letter.reason, letter.field) == (malformed.reason, malformed.field), str(malformed)[:300]
    return verdict


async def test_each_of_ten_thousand_malformed_records_becomes_a_dead_letter(fleet: Fleet) -> None:
    await _told_apart(fleet, 10_000)


# ------------------------------------------------------------------------------------------------------------------ HTTP


class BadBody(NamedTuple):
    """A body and the JSON path that the answer must name; None where it is left to chance, or there is no field."""

    body: bytes
    field: str | None
    content_type: str = "application/json"


def bad_bodies(count: int, seed: int) -> Iterator[BadBody]:
    """All kinds in turn, each with chance in it."""
    chance = random.Random(seed)

    def view(**fields: object) -> dict[str, object]:
        return {"user_id": "ada", "event": "product_viewed", "product_id": "1", "timestamp": "2024-04-27T14:35:22Z", **fields}

    def body(obj: object) -> bytes:
        return json.dumps(obj).encode()

    for number in range(count):
        if number % NOISE_EVERY == 0:
            yield BadBody(chance.randbytes(NOISE_BYTES), None)
            continue
        match number % 12:
            case 0:
                yield BadBody(b"\xff" + chance.randbytes(chance.randint(0, 300)), None)
            case 1:
                whole = body(view())
                yield BadBody(whole[: chance.randint(1, len(whole) - 1)], None)
            case 2:
                yield BadBody(body(view(event=chance.choice(["product_seen", "", "ADD_TO_CART", "x" * 5000]))), "event")
            case 3:
                yield BadBody(body(view(user_id=chance.choice(["", None, 7, "y" * 257, "__share", "\x00", ["ada"]]))), "user_id")
            case 4:
                at = chance.choice(["tomorrow", "2024-04-27", -5, 10**17, "1970-01-01T00:00:00Z", {}])
                yield BadBody(body(view(timestamp=at)), "timestamp")
            case 5:
                yield BadBody(body(view(product_id=chance.choice(["", None, 3.5, "p" * 129, "__offset", []]))), "product_id")
            case 6:
                yield BadBody(body(view(prodcut_id="1")), "prodcut_id")
            case 7:
                price = chance.choice([-1, "dear", 1e300, True])
                yield BadBody(body(view(event="add_to_cart", attributes={"price": price})), "attributes.price")
            case 8:
                order = view(event="order_placed", order_id="7", products=[{"product_id": "1"}, {"product_id": ""}], product_id=None)
                yield BadBody(body([view(), order]), "products[1].product_id")
            case 9:
                odd = [b"", b"[]", b"null", b"7", b'"text"', b"[" * 5000, b'{"user_id":"a","user_id":"b"}', b"NaN"]
                yield BadBody(chance.choice(odd), None)
            case 10:
                yield BadBody(b"\n".join([body(view()), b'{"user_id":', body(view())]), None, "application/x-ndjson")
            case _:
                yield BadBody(body(view()), None, chance.choice(["text/plain", "application/xml", "application/x-protobuf"]))


async def _refused(fleet: Fleet, count: int) -> None:
    """Each body is answered with a 4xx that says what is wrong; nothing is published; a good one passes after them all."""
    (worker,) = await fleet.start("a")
    room = asyncio.Semaphore(16)

    async def is_refused(bad: BadBody) -> None:
        async with room:
            status, problem = await worker.post("/v1/events", bad.body, bad.content_type)
        shown = f"{status} {problem} for {bad.body[:200]!r}"
        assert 400 <= status < 500, shown
        assert problem["status"] == status, shown
        assert problem["detail"], shown
        if bad.field is not None:
            assert problem["errors"][0]["field"] == bad.field, shown

    bodies = bad_bodies(count, seed=11)
    while chunk := [bad for _, bad in zip(range(500), bodies, strict=False)]:
        await asyncio.gather(*(is_refused(bad) for bad in chunk))
    assert await fleet.log.ends(fleet.names.events) == [0] * fleet.settings.kafka.partitions
    assert await worker.metric("tidings_ingested_total", outcome="accepted") == 0
    status, answer = await worker.post("/v1/events", b'{"user_id": "ada", "event": "product_viewed", "product_id": "1"}')
    assert (status, answer["accepted"]) == (202, 1)
    assert (await fleet.exact(1)).applied == 1


async def test_each_of_ten_thousand_malformed_bodies_is_refused(fleet: Fleet) -> None:
    await _refused(fleet, 10_000)
