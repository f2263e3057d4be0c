"""What one interaction means for the items concerned: an arrival at the item itself and a link at each product that the person came from.

This is StreamPair's update: d counts the products back from the new one, over the session and then, discounted, over the last products of
earlier sessions. Forward link 1/d, backward link 0.7/d, each times the growth of the decay at the event's time.
"""

from __future__ import annotations

from app.domain.decay import growth, window_of
from app.domain.profile import Interaction
from tidings.internal.v1.visits_pb2 import Visit
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


def visits_of(interaction: Interaction, source_offset: int) -> list[Visit]:
    """The arrival first, then one visit for each distinct product the person came from, nearest first: at most 6.

    Weights are whole numbers in fixed point (app/domain/decay.py) that depend on the interaction alone.
    """
    at_ms = interaction.occurred_at_ms
    product_id = interaction.product_id
    window = window_of(at_ms)
    unit = growth(at_ms, window) * KIND_WEIGHTS[interaction.kind]
    forward, backward = _links(interaction, unit)

    # Field by field, and forward visits as copies of one: half the time of constructors with lists.
    arrival = Visit()
    arrival.source_offset = source_offset
    arrival.product_id = product_id
    arrival.occurred_at_ms = at_ms
    arrival.window = window
    arrival.weight = round(unit)
    arrival.reply_to_user_id = interaction.user_id
    visits = [arrival]
    if forward:
        arrival.neighbour_ids.extend(backward)
        arrival.neighbour_weights.extend(backward.values())
        link = Visit(source_offset=source_offset, occurred_at_ms=at_ms, window=window)
        link.neighbour_ids.append(product_id)
        same = link.SerializeToString()
        for previous, weight in forward.items():
            visit = Visit.FromString(same)
            visit.product_id = previous
            visit.neighbour_weights.append(weight)
            visits.append(visit)
    return visits


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
