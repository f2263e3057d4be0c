"""A few seconds of noise against every decoder; `make fuzz` goes on for as long as wanted, guided by coverage."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import Message

from tests.fuzz.decoders import decoders
from tidings.internal.v1.neighbours_pb2 import Neighbours
from tidings.internal.v1.visits_pb2 import Visits
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry
from tidings.state.v1.share_pb2 import Share, Trending, TrendingBlock

INPUTS = 300
#: Of what comes through Kafka from elsewhere: there a fault stops workers.
INPUTS_OF_TOPICS = 1_500
TOPICS = ("event", "product", "delivery command", "visits", "neighbours")
DECODERS = decoders()
#: What fuzzing has found, each mended: a time after the year 9999; products that were counted in no event; a question from a partition that
#: does not exist, whose answer could not be written; ids that the tables keep for themselves.
FOUND = [
    ("outbox changelog", OutboxEntry(deliveries=[Delivery(target="inbox", due_since_ms=2**62, next_attempt_at_ms=-(2**62))])),
    ("share", Share(trending=Trending(blocks=[TrendingBlock(product_ids=["shoe"], counts=[1])]))),
    ("visits", Visits(source_partition=2**31 - 1, products=["shoe"], asking_user_ids=["anna"], asked_places=[0], asked_caused_at_ms=[1])),
    ("visits", Visits(products=["__offset"], source_offsets=[9], item_places=[0], occurred_at_ms=[1], weights=[0], neighbour_counts=[0])),
    ("neighbours", Neighbours(lists=[b""], user_ids=["__offset"], list_places=[0], caused_at_ms=[1])),
]


@pytest.mark.parametrize(("name", "message"), FOUND)
def test_what_was_found_once_is_found_no_more(name: str, message: Message) -> None:
    DECODERS[name].check(message.SerializeToString())


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_valid_is_taken(name: str) -> None:
    decoder = DECODERS[name]
    assert decoder.corpus
    for data in decoder.corpus:
        decoder.check(data)


@pytest.mark.parametrize("name", DECODERS)
def test_noise_is_refused_or_taken_and_never_more(name: str) -> None:
    decoder, chance = DECODERS[name], random.Random(name)
    for _ in range(INPUTS_OF_TOPICS if name in TOPICS else INPUTS):
        data = decoder.noise(chance)
        try:
            decoder.check(data)
        except Exception as error:
            error.add_note(f"by {data!r}")
            raise
