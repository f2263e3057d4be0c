"""Every decoder, with valid messages to begin from, and what must hold of it whatever the bytes: it refuses in its own words or goes on.

``decoders()[name].check(data)`` raises when something does not hold. Agents are run whole, for a record that one cannot take would stop
every worker that owns its partition, again and again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from google.protobuf.message import DecodeError, Message

from app.delivery.destination_states import state_of
from app.destinations import Destination, HasFields, JobBased
from app.destinations.requests import Part, Response
from app.domain.catalog_fold import catalog_product
from app.domain.json_event import event_from_json
from app.domain.json_product import product_change_from_json, product_from_json
from app.domain.models import GlobalModels
from app.domain.product_validation import product_key
from app.engine import Codec
from app.streams.apply_delivery_commands import ApplyDeliveryCommands
from app.streams.fold_items import ITEMS
from app.streams.fold_products import PRODUCTS
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY
from app.streams.keep_neighbours import NEIGHBOURS
from app.streams.rank_users import OUTBOX
from app.web.deliveries import deliveries_json
from app.web.json_body import EntryKind, read_entries
from app.web.openapi_products import PRODUCT_CHANGE_EXAMPLES, PRODUCT_EXAMPLES
from app.web.openapi_schemas import EVENT_EXAMPLES
from app.web.products import product_json
from tests.agents.worlds import (
    NAMES,
    Bench,
    DictState,
    ItemsBench,
    NeighboursBench,
    ProductsBench,
    ProfilesBench,
    Record,
    consent,
    neighbours_record,
    ordered,
    questions_record,
    viewed,
    visit,
    visits_record,
)
from tests.contract.destinations import EXAMPLES
from tests.contract.people import many
from tests.contract.test_answers_of_noise import ANSWERS
from tests.fuzz.mutation import mutated, mutated_json, mutated_message
from tests.unit.delivery.test_commands import command, confirmed, dead
from tests.unit.domain.product_worlds import change, full
from tidings.events.v1.event_pb2 import Event
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.internal.v1.destination_state_pb2 import BREAKER_OPEN_ERRORS, DestinationState
from tidings.internal.v1.neighbours_pb2 import Neighbours
from tidings.internal.v1.visits_pb2 import Visits
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry
from tidings.state.v1.item_pb2 import Item
from tidings.state.v1.neighbours_pb2 import UserNeighbours
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.state.v1.share_pb2 import Share

#: Later than every example.
NOW_MS = 1_714_300_000_000
#: Of every topic, in the worlds of these checks.
PARTITIONS = 4


@dataclass(frozen=True)
class Decoder:
    """``corpus``: valid inputs of each kind. ``check`` raises when it finds a fault."""

    corpus: list[bytes]
    _check: Callable[[bytes], Any]
    #: What the inputs are: messages of a kind, or else JSON; and the bytes that stand before it.
    kind: type[Message] | None = None
    head: int = 0

    def noise(self, chance: random.Random, known: bytes = b"") -> bytes:
        """A valid input, or one that is ``known``, changed: at a place of the message, or as bytes where it is none any more."""
        if not known and chance.random() < 0.5:
            return mutated(self.corpus, chance)
        valid = known or chance.choice(self.corpus)
        head, body = valid[: self.head], valid[self.head :]
        try:
            return head + (mutated_json(body, chance) if self.kind is None else mutated_message(self.kind, body, chance))
        except (DecodeError, ValueError):
            return mutated(self.corpus, chance)

    def check(self, data: bytes) -> None:
        _LOOP.run_until_complete(self._checked(data))

    async def _checked(self, data: bytes) -> None:
        self._check(data)


#: Agents' units make futures, which belong to a loop.
_LOOP = asyncio.new_event_loop()


# ---------------------------------------------------------------------- the topics that anybody may write


def _events() -> list[Event]:
    made = [viewed("anna", "shoe", 1), ordered("anna", ["shoe", "hat"], 2), consent("anna", 2, 3)]
    for number, example in enumerate(EVENT_EXAMPLES.values(), 4):
        event = event_from_json({**example, "user_id": "anna"}, NOW_MS)
        assert isinstance(event, Event)
        event.event_id = f"e{number}"
        made.append(event)
    return made


def _key_of(kind: type[Event | DeliveryCommand], data: bytes) -> bytes:
    """The key that goes with it, so that what is behind the comparison of keys is reached, too."""
    try:
        return kind.FromString(data).user_id.encode()
    except DecodeError:
        return b"anna"


def check_event(data: bytes) -> None:
    """It is folded or becomes a dead letter, and whatever it causes is read by those who get it."""
    bench = ProfilesBench(PARTITIONS)
    before = viewed("anna", "sock", 0)
    bench.feed([
        Record(NAMES.events, 0, 0, NOW_MS, b"anna", before.SerializeToString()),
        Record(NAMES.events, 0, 1, NOW_MS, _key_of(Event, data), data),
        Record(NAMES.events, 0, 2, NOW_MS, b"somebody", data),
    ])
    assert len(bench.dead_letters()) <= 2
    _is_stable(bench.state)
    for partition, _, value in bench.emitted(NAMES.visits):
        items = ItemsBench(partition)
        items.feed([Record(NAMES.visits, partition, 0, NOW_MS, None, value)])
        assert not items.dead_letters(), "what was folded must be understood by the items"
        _is_stable(items.state)


def check_product(data: bytes) -> None:
    """The same for a product, and for what is answered about it."""
    try:
        key = product_key(Product.FromString(data))
    except DecodeError:
        key = b"shoe"
    bench = ProductsBench(PARTITIONS)
    bench.feed([
        Record(NAMES.products, 0, 0, NOW_MS, b"shoe", full("shoe", 999).SerializeToString()),
        Record(NAMES.products, 0, 1, NOW_MS, key, data),
        Record(NAMES.products, 0, 2, NOW_MS, b"hat", data),
        Record(NAMES.products, 0, 3, NOW_MS, key, data),
    ])
    _is_stable(bench.state)
    for product_id in bench.state.bytes_by_key:
        product = catalog_product(bench.state.get(product_id))
        if product is not None:
            orjson.dumps(product_json(product))


def check_delivery_command(data: bytes) -> None:
    agent = ApplyDeliveryCommands(NAMES, PARTITIONS, ["inbox"], lambda users: None, lambda user, partitions: 0)
    bench = Bench(agent.apply, DictState(OUTBOX))
    bench.state.bytes_by_key |= {b"ann": dead().SerializeToString(), b"bob": confirmed().SerializeToString()}
    bench.feed([
        Record(NAMES.delivery_commands, 0, 0, NOW_MS, _key_of(DeliveryCommand, data), data),
        Record(NAMES.delivery_commands, 0, 1, 0, b"ann", data),
    ])
    _is_stable(bench.state)
    for user in bench.state.bytes_by_key:
        check_outbox(bench.state.bytes_by_key[user])


# ---------------------------------------------------------------------- the topics between the workers


def check_visits(data: bytes) -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", 3, "hat", "anna")])])
    bench.feed([Record(NAMES.visits, 0, 1, NOW_MS, None, data)])
    _goes_to_existing_partitions(bench)
    _is_stable(bench.state)


def check_neighbours(data: bytes) -> None:
    bench = NeighboursBench()
    bench.feed([neighbours_record(0, ("anna", "shoe", 5))])
    bench.feed([Record(NAMES.neighbours, 0, 1, NOW_MS, None, data)], [Record(NAMES.neighbours, 0, 0, NOW_MS, None, data)])
    _goes_to_existing_partitions(bench)
    _is_stable(bench.state)
    for key, raw in bench.state.bytes_by_key.items():
        held, lists = bench.state.get(key), UserNeighbours.FromString(raw)
        for product_id in [message.product_id for message in (*lists.lists, *lists.second_hop)]:
            held.neighbours(product_id), held.together(product_id), held.bought(product_id)


def check_destination_state(data: bytes) -> None:
    try:
        record = DestinationState.FromString(data)
    except DecodeError:
        return
    state_of(record, NOW_MS)


# ---------------------------------------------------------------------- the changelogs


def check_codec(codec: Codec[Any]) -> Callable[[bytes], None]:
    """Bytes that are none raise DecodeError; what is read can be written, and is the same when it is read again."""

    def check(data: bytes) -> None:
        try:
            held = codec.decode(data)
        except DecodeError:
            return
        written = codec.encode(held)
        again = codec.encode(codec.decode(written))
        assert again == written or sorted(again) == sorted(written), "what was written is read as something else"

    return check


def check_outbox(data: bytes) -> None:
    """Of people, as operators are shown it."""
    check_codec(OUTBOX)(data)
    try:
        entry = OUTBOX.decode(data)
    except DecodeError:
        return
    orjson.dumps(deliveries_json("anna", entry, NOW_MS))


def check_share(data: bytes) -> None:
    check_codec(SHARE)(data)
    try:
        share = SHARE.decode(data)
    except DecodeError:
        return
    GlobalModels.of([share])


# ---------------------------------------------------------------------- bodies and answers over HTTP


def check_body(read: Callable[[Any, int], Any]) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        for content_type in ("application/json", "application/x-ndjson"):
            found = read_entries(data, content_type, EntryKind("event", "events"), 1_000, lambda value: read(value, NOW_MS))
            for message in getattr(found, "entries", ()):
                assert isinstance(message, Message)
                message.SerializeToString()

    return check


_STATUSES = (200, 201, 202, 204, 207, 301, 400, 401, 404, 409, 410, 413, 422, 429, 500, 503)
_FIELD_ANSWERS = [
    {"custom_fields": [{"id": "e1_T", "name": "rec_1_id", "field_type": "Text"}]}, {"merge_fields": [{"tag": "REC1_ID", "type": "text"}]},
    {"results": [{"name": "rec_1_id"}]}, {"persisted_recipients": ["a"], "errors": [{"error_indices": [0], "message": "bad"}]},
    {"errors": [{"email_address": "user-1@example.com", "error": "bad", "error_code": "ERROR_CONTACT_EXISTS"}], "error_count": 1},
    {"status": "COMPLETE", "results": [{"id": "1", "properties": {"email": "user-1@example.com"}}], "numErrors": 1},
    {"job_id": "j", "status": "errored", "results": {"errors_count": 1, "errors_url": "https://x.example"}},
]  # fmt: skip


def check_readings(destination: Destination) -> Callable[[bytes], None]:
    """The first byte chooses the status, the second where the answer was to; the rest is the body, and its beginning a header."""
    parts = [part for person in many(3) if isinstance(part := destination.encode(person), Part)][: destination.limits.people]

    def check(data: bytes) -> None:
        status, body = _STATUSES[data[0] % len(_STATUSES)] if data else 200, data[1:]
        header = body[:24].decode("latin-1")
        names = ("retry-after", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset", "date")
        response = Response(status, dict.fromkeys(names, header), body, NOW_MS)
        destination.read(parts, response)
        destination.quota(response)
        if isinstance(destination, JobBased):
            for job in ("job-1", "job-1#errors:1", header):
                destination.read_poll(job, parts, response)
        if isinstance(destination, HasFields):
            destination.missing_fields(response)
            destination.settings_hint(response)

    return check


# ----------------------------------------------------------------------


def _is_stable(state: DictState) -> None:
    """Whatever an agent left can be read again, and says the same."""
    for key, value in state.bytes_by_key.items():
        assert key == SHARE_KEY or (key and not key.startswith(b"__")), "a key that the engine keeps for itself"
        check_codec(SHARE if key == SHARE_KEY else state._codec)(value)
        state._codec_of(key).decode(value)


def _goes_to_existing_partitions(bench: Bench) -> None:
    """A record for a partition that is not there could not be written, and would stop the worker."""
    assert not [place for place in bench.outputs if not 0 <= place[1] < PARTITIONS], "a record for a partition that does not exist"


def _encoded(messages: Iterable[Message]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def _state_after_events() -> ProfilesBench:
    bench = ProfilesBench(PARTITIONS)
    bench.feed([Record(NAMES.events, 0, n, NOW_MS, b"anna", event.SerializeToString()) for n, event in enumerate(_events())])
    return bench


@cache
def decoders() -> dict[str, Decoder]:
    """By name."""
    return _LOOP.run_until_complete(_decoders())


async def _decoders() -> dict[str, Decoder]:
    events, profiles = _events(), _state_after_events()
    visits = [value for _, _, value in profiles.emitted(NAMES.visits)]
    items = ItemsBench()
    items.feed([Record(NAMES.visits, 0, n, NOW_MS, None, value) for n, value in enumerate(visits)])
    replies = [value for _, _, value in items.emitted(NAMES.neighbours)]
    neighbours = NeighboursBench()
    neighbours.feed([Record(NAMES.neighbours, 0, n, NOW_MS, None, value) for n, value in enumerate(replies)])
    products = [full("shoe", 999, title="Shoe"), change("shoe", "title", price=5)]
    for read, examples in ((product_from_json, PRODUCT_EXAMPLES), (product_change_from_json, PRODUCT_CHANGE_EXAMPLES)):
        products += [product for example in examples.values() if isinstance(product := read(example, NOW_MS), Product)]
    shop = ProductsBench(PARTITIONS)
    shop.feed([Record(NAMES.products, 0, n, NOW_MS, product_key(one), one.SerializeToString()) for n, one in enumerate(products)])
    share = profiles.state.bytes_by_key[SHARE_KEY]
    state = DestinationState(target="inbox", at_ms=NOW_MS, by="w", breaker=BREAKER_OPEN_ERRORS, reason="no", until_ms=NOW_MS + 1)
    asked = questions_record(0, ("anna", "shoe")).value or b""
    bodies = [orjson.dumps(answer) for answers in ANSWERS.values() for answer in answers] + [orjson.dumps(a) for a in _FIELD_ANSWERS]
    answers = [bytes([status]) + body for status in range(len(_STATUSES)) for body in bodies]
    return {
        "event": Decoder(_encoded(events), check_event, Event),
        "product": Decoder(_encoded(products), check_product, Product),
        "delivery command": Decoder(
            _encoded([command("retry"), command("drop", user="bob"), command("resync", user="bob")]), check_delivery_command,
            DeliveryCommand,
        ),
        "visits": Decoder([*visits, asked], check_visits, Visits),
        "neighbours": Decoder(replies, check_neighbours, Neighbours),
        "destination state": Decoder(_encoded([state]), check_destination_state, DestinationState),
        "profiles changelog": Decoder([profiles.state.bytes_by_key[b"anna"]], check_codec(PROFILES), Profile),
        "items changelog": Decoder(list(items.state.bytes_by_key.values()), check_codec(ITEMS), Item),
        "neighbours changelog": Decoder(list(neighbours.state.bytes_by_key.values()), check_codec(NEIGHBOURS), UserNeighbours),
        "products changelog": Decoder(list(shop.state.bytes_by_key.values()), check_codec(PRODUCTS), CatalogEntry),
        "outbox changelog": Decoder(_encoded([dead(), confirmed(), dead(blocked=True)]), check_outbox, OutboxEntry),
        "share": Decoder([share], check_share, Share),
        "events over HTTP": Decoder([orjson.dumps(example) for example in EVENT_EXAMPLES.values()], check_body(event_from_json)),
        "products over HTTP": Decoder([orjson.dumps(example) for example in PRODUCT_EXAMPLES.values()], check_body(product_from_json)),
        "changes over HTTP": Decoder([orjson.dumps(e) for e in PRODUCT_CHANGE_EXAMPLES.values()], check_body(product_change_from_json)),
        **{f"answer of {kind}": Decoder(answers, check_readings(destination), head=1) for kind, destination in EXAMPLES.items()},
    }
