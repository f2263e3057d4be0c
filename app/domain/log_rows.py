"""One row of an event log, whatever file it came from, and the event it stands for."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tidings.events.v1.event_pb2 import AddedToCart, Event, OrderLine, OrderPlaced, ProductViewed, RemovedFromCart

RowKind = Literal["view", "cart", "remove", "purchase"]

#: What logs call their events -> what Tidings makes of them.
ROW_KINDS: dict[str, RowKind] = {
    "view": "view",
    "click": "view",
    "product_viewed": "view",
    "cart": "cart",
    "add_to_cart": "cart",
    "added_to_cart": "cart",
    "remove_from_cart": "remove",
    "removed_from_cart": "remove",
    "purchase": "purchase",
    "order": "purchase",
    "order_placed": "purchase",
    "transaction": "purchase",
}


class LogRow(NamedTuple):
    """Somebody did something with a product. ``session`` is empty where the log has none."""

    ts_ms: int
    user: str
    session: str
    item: str
    #: One of ROW_KINDS.
    event: str


def event_of(row: LogRow, index: int, log_name: str = "log") -> Event:
    """The event of the row at ``index`` of a log: the same row gives the same event, id included, however often it is read."""
    event_id = f"{log_name}-{index}"
    event = Event(event_id=event_id, user_id=row.user, occurred_at_ms=row.ts_ms, source="replay", session_id=row.session)
    match ROW_KINDS[row.event]:
        case "view":
            event.product_viewed.CopyFrom(ProductViewed(product_id=row.item))
        case "cart":
            event.added_to_cart.CopyFrom(AddedToCart(product_id=row.item))
        case "remove":
            event.removed_from_cart.CopyFrom(RemovedFromCart(product_id=row.item))
        case "purchase":
            event.order_placed.CopyFrom(OrderPlaced(order_id=event_id, lines=[OrderLine(product_id=row.item)]))
    return event
