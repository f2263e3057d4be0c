"""What one interaction means for the items concerned: an arrival at the item itself and a link at each product that the person came from.

This is StreamPair's update: d counts the products back from the new one, over the session and then, discounted, over the last products of
earlier sessions. Forward link 1/d, backward link 0.7/d, each times the growth of the decay at the event's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from google.protobuf.message import DecodeError

from app.domain.decay import growth, window_of
from app.domain.profile import Interaction
from tidings.internal.v1.visits_pb2 import Visits
from tidings.state.v1.profile_pb2 import (
    INTERACTION_KIND_CART,
    INTERACTION_KIND_EMAIL_CLICK,
    INTERACTION_KIND_PURCHASE,
    INTERACTION_KIND_VIEW,
)

#: m: how far back links go.
MAX_DISTANCE = 5
#: How many products of earlier sessions may be among them, and what their links are worth.
MAX_CROSS_SESSION = 4
CROSS_SESSION = 0.3
#: Worth of a link from an item back to the one before.
BACKWARD = 0.7
#: No gain from weighting kinds differently was measured on the logs at hand; a shop that has measured one changes it here.
KIND_WEIGHTS: dict[int, float] = {
    INTERACTION_KIND_VIEW: 1.0,
    INTERACTION_KIND_CART: 1.0,
    INTERACTION_KIND_PURCHASE: 1.0,
    INTERACTION_KIND_EMAIL_CLICK: 1.0,
}


class Visit(NamedTuple):
    """What one event adds to one item. The fields are explained in visits.proto, whose columns they fill."""

    source_offset: int
    product_id: str
    occurred_at_ms: int
    window: int
    weight: int = 0
    #: Empty unless the person came to the item and an answer is wanted.
    reply_to_user_id: str = ""
    caused_at_ms: int = 0
    #: Of one length.
    neighbour_ids: tuple[str, ...] = ()
    neighbour_weights: tuple[int, ...] = ()


def visits_of(interaction: Interaction, source_offset: int, caused_at_ms: int = 0) -> list[Visit]:
    """The arrival first, then one visit for each distinct product the person came from, nearest first: at most 6.

    Weights are whole numbers in fixed point (app/domain/decay.py) that depend on the interaction alone. ``caused_at_ms`` is when Kafka
    received the event.
    """
    user_id, product_id, kind, at_ms, _, _ = interaction
    window = window_of(at_ms)
    unit = growth(at_ms, window) * KIND_WEIGHTS[kind]
    forward, backward = _links(interaction, unit)
    back_ids, back_weights = tuple(backward), tuple(backward.values())
    visits = [Visit(source_offset, product_id, at_ms, window, round(unit), user_id, caused_at_ms, back_ids, back_weights)]
    to_product = (product_id,)
    for previous, weight in forward.items():
        visits.append(Visit(source_offset, previous, at_ms, window, 0, "", 0, to_product, (weight,)))
    return visits


def encode_visits(source_partition: int, visits: Sequence[Visit]) -> bytes:
    """A Visits message: visits of one events partition, in order of their offsets."""
    message = Visits(source_partition=source_partition)
    if visits:
        offsets, products, times, windows, weights, users, caused, neighbours, neighbour_weights = zip(*visits, strict=True)
        message.source_offsets.extend(offsets)
        message.product_ids.extend(products)
        message.occurred_at_ms.extend(times)
        message.windows.extend(windows)
        message.weights.extend(weights)
        message.reply_to_user_ids.extend(users)
        message.caused_at_ms.extend(caused)
        message.neighbour_counts.extend(map(len, neighbours))
        message.neighbour_ids.extend(chain.from_iterable(neighbours))
        message.neighbour_weights.extend(chain.from_iterable(neighbour_weights))
    return message.SerializeToString()


def decode_visits(value: bytes) -> tuple[int, list[Visit]]:
    """The events partition and its visits. Raises DecodeError if the bytes are not a Visits message, or its lists do not fit together."""
    message = Visits.FromString(value)
    neighbour_ids = tuple(message.neighbour_ids[:])
    neighbour_weights = tuple(message.neighbour_weights[:])
    columns = (
        message.source_offsets[:],
        message.product_ids[:],
        message.occurred_at_ms[:],
        message.windows[:],
        message.weights[:],
        message.reply_to_user_ids[:],
        message.caused_at_ms[:],
    )
    counts = message.neighbour_counts[:]
    if any(len(column) != len(counts) for column in columns) or not len(neighbour_ids) == len(neighbour_weights) == sum(counts):
        raise DecodeError("the lists of a tidings.internal.v1.Visits must be of one length")
    visits = []
    start = 0
    for count, offset, product_id, at_ms, window, weight, user_id, caused_at_ms in zip(counts, *columns, strict=True):
        end = start + count
        own_ids, own_weights = neighbour_ids[start:end], neighbour_weights[start:end]
        visits.append(Visit(offset, product_id, at_ms, window, weight, user_id, caused_at_ms, own_ids, own_weights))
        start = end
    return message.source_partition, visits


def _links(interaction: Interaction, unit: float) -> tuple[dict[str, int], dict[str, int]]:
    """Weights of forward and backward links by previous product, nearest first; a product met twice gets both weights."""
    product_id = interaction.product_id
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    session = interaction.session
    distance = 0
    for previous in session[: -MAX_DISTANCE - 1 : -1]:
        distance += 1
        if previous != product_id:
            link = unit / distance
            forward[previous] = forward.get(previous, 0) + round(link)
            backward[previous] = backward.get(previous, 0) + round(link * BACKWARD)
    if distance < MAX_DISTANCE:
        unit *= CROSS_SESSION
        for previous in interaction.earlier[: -min(MAX_CROSS_SESSION, MAX_DISTANCE - distance) - 1 : -1]:
            distance += 1
            if previous != product_id:
                link = unit / distance
                forward[previous] = forward.get(previous, 0) + round(link)
                backward[previous] = backward.get(previous, 0) + round(link * BACKWARD)
    return forward, backward
