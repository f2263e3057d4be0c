"""A few seconds of noise against every decoder; `make fuzz` goes on for as long as wanted, guided by coverage."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import Message

from tests.fuzz.decoders import decoders
from tests.fuzz.mutation import mutated
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry
from tidings.state.v1.share_pb2 import Share, Trending, TrendingBlock

INPUTS = 400
DECODERS = decoders()
#: What fuzzing has found, each mended: a time after the year 9999, and products that were counted in no event.
FOUND = [
    ("outbox changelog", OutboxEntry(deliveries=[Delivery(target="inbox", due_since_ms=2**62, next_attempt_at_ms=-(2**62))])),
    ("share", Share(trending=Trending(blocks=[TrendingBlock(product_ids=["shoe"], counts=[1])]))),
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
    for _ in range(INPUTS):
        data = mutated(decoder.corpus, chance)
        try:
            decoder.check(data)
        except Exception as error:
            error.add_note(f"by {data!r}")
            raise
