"""What one interaction means for the items concerned: an arrival at the item itself and a link at each product that the person came from.

A purchase also links to what the person bought last, both ways: what is bought together is counted apart from what is seen together.

This is StreamPair's update: d counts the products back from the new one, over the session and then, discounted, over the last products of
earlier sessions. Forward link 1/d, backward link 0.7/d, each times the growth of the decay at the event's time.
"""

from __future__ import annotations

from typing import NamedTuple

from app.domain.decay import growth_at
from app.domain.profile import Interaction
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
#: No gain from weighting kinds differently was measured on the logs at hand; a shop that has measured one changes it here. Above 0, for a
#: visit without a weight of its own is one of a person who left the item.
KIND_WEIGHTS: dict[int, float] = {
    INTERACTION_KIND_VIEW: 1.0,
    INTERACTION_KIND_CART: 1.0,
    INTERACTION_KIND_PURCHASE: 1.0,
    INTERACTION_KIND_EMAIL_CLICK: 1.0,
}


class Visit(NamedTuple):
    """What one event adds to one item. Weights are relative to the decay window of the event's time (app/domain/decay.py)."""

    source_offset: int
    product_id: str
    occurred_at_ms: int
    #: To add to the item's own; 0 where the person did not come to this item but left it.
    weight: int = 0
    #: Empty unless the person came to the item and an answer is wanted.
    reply_to_user_id: str = ""
    caused_at_ms: int = 0
    #: Of one length.
    neighbour_ids: tuple[str, ...] = ()
    neighbour_weights: tuple[int, ...] = ()
    #: The person bought the product; and what the same person bought with it or before it, or after it.
    is_purchase: bool = False
    bought_ids: tuple[str, ...] = ()


def visits_of(interaction: Interaction, source_offset: int, caused_at_ms: int = 0) -> list[Visit]:
    """The arrival first, then one visit for each distinct product the person came from, nearest first, at most 5; then one for each other
    product that the person bought last, at most 5, if this is a purchase.

    They depend on the interaction alone. ``caused_at_ms`` is when Kafka received the event. On the way to the items they go by columns
    (app/domain/visit_records.py).
    """
    user_id, product_id, kind, at_ms, _, _, bought = interaction
    weight, forward, backward = links_of(interaction)
    is_purchase = kind == INTERACTION_KIND_PURCHASE
    ids, weights = tuple(backward), tuple(backward.values())
    arrival = Visit(source_offset, product_id, at_ms, weight, user_id, caused_at_ms, ids, weights, is_purchase, bought)
    left = [Visit(source_offset, previous, at_ms, 0, "", 0, (product_id,), (link,)) for previous, link in forward.items()]
    left += [Visit(source_offset, previous, at_ms) for previous in bought if previous not in forward]
    return [arrival, *(visit._replace(bought_ids=(product_id,)) if visit.product_id in bought else visit for visit in left)]


def links_of(interaction: Interaction) -> tuple[int, dict[str, int], dict[str, int]]:
    """One interaction in numbers, in fixed point: what the arrival adds to the item's own weight; and of the distinct products that the
    person came from, nearest first, the weight of the link from each, and that of the link back to each.

    A product met twice gets the links of both.
    """
    _, product_id, kind, at_ms, session, earlier, _ = interaction
    unit = growth_at(at_ms) * KIND_WEIGHTS[kind]
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    met = session[: -MAX_DISTANCE - 1 : -1]
    in_session = len(met)
    if in_session < MAX_DISTANCE and earlier:
        met += earlier[: -min(MAX_CROSS_SESSION, MAX_DISTANCE - in_session) - 1 : -1]
    worth, distance = unit, 0
    for previous in met:
        if distance == in_session:
            worth = unit * CROSS_SESSION
        distance += 1
        if previous == product_id:
            continue
        link = worth / distance
        if previous in forward:
            forward[previous] += round(link)
            backward[previous] += round(link * BACKWARD)
        else:
            forward[previous] = round(link)
            backward[previous] = round(link * BACKWARD)
    return round(unit), forward, backward
