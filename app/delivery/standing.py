"""How one person stands at one destination, in a word: what the API, the commands and the demo page show of an outbox entry. Pure."""

from __future__ import annotations

from typing import Literal

from app.delivery.outbox import WITHHELD, is_due
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery

Standing = Literal["confirmed", "due", "in_flight", "in_job", "retrying", "withheld", "dead", "blocked", "never_due"]

#: What each word means.
STANDINGS: dict[Standing, str] = {
    "confirmed": "the destination has what it should have",
    "due": "a request is to be made",
    "in_flight": "a request may be on the wire",
    "in_job": "the destination took it into a job and has not said yet what became of it",
    "retrying": "the last attempt failed, or the destination asked to wait; the next one is due at next_attempt_at",
    "withheld": "not sent, because the person is unknown or gave no consent",
    "dead": "given up at the version that is due; a newer one is tried again",
    "blocked": "given up for good: nothing is sent before an operator says so",
    "never_due": "nothing was ever to be sent",
}


def standing_of(delivery: Delivery, now_ms: int) -> Standing:
    """``now_ms``: milliseconds since 1970."""
    if delivery.blocked:
        return "blocked"
    if delivery.job and delivery.in_flight_version:
        return "in_job"
    if delivery.in_flight_version and delivery.in_flight_until_ms > now_ms:
        return "in_flight"
    if is_due(delivery):
        return "retrying" if delivery.next_attempt_at_ms > now_ms else "due"
    if delivery.desired_version > delivery.confirmed_version:
        return "withheld" if _is_withheld(delivery) else "dead"
    return "confirmed" if delivery.confirmed_version else "never_due"


def _is_withheld(delivery: Delivery) -> bool:
    if delivery.dead_reason == DeadReason.DEAD_REASON_UNSPECIFIED:
        return delivery.last_error == WITHHELD  # written before there were reasons
    return delivery.dead_reason == DeadReason.DEAD_REASON_WITHHELD


def reason_name(reason: DeadReason) -> str:
    """``no_identity`` for DEAD_REASON_NO_IDENTITY; ``unknown`` for one that a newer worker wrote."""
    try:
        return DeadReason.Name(reason).removeprefix("DEAD_REASON_").lower()
    except ValueError:
        return "unknown"
