"""How delivery to one target goes on this worker: what GET /v1/destinations and the metrics show."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from app.delivery import outbox
from app.delivery.breaker import BreakerState
from app.delivery.kit import Kit
from app.errors import NotOwnedError

#: Users of a lane who are looked at to find who is due for longest. Their order in the lane is nearly that of their events, so it is one
#: of the first, unless failures put many of them back.
USERS_LOOKED_AT = 32


@dataclass(frozen=True, slots=True)
class LineStatus:
    """One target's, of the users whom this worker owns."""

    name: str
    #: Users who should still get something, those who are sent once more included; and those alone who wait for that.
    due: int
    resync_due: int
    #: Requests on the wire, and people whom a job over there has.
    in_flight: int
    in_jobs: int
    breaker: BreakerState
    #: How long the oldest event waits that is not delivered, as far as is known cheaply: among the first users of the lane. 0: none.
    oldest_due_ms: int
    #: Until when the target asked for no more requests; 0: it did not.
    paused_until_ms: int


@dataclass(frozen=True, slots=True)
class LineProgress:
    """What tells a line that goes on from one that stands still."""

    name: str
    #: Grows with each user who got something, or was found to need nothing, or will be tried again.
    turns_ended: int
    #: Whether someone waits for nothing but us.
    is_owed: bool
    #: What may be on the wire ends by itself within so long.
    wire_seconds: float


def oldest_due_ms(kit: Kit) -> int:
    """Milliseconds since the event of the user who is due for longest, of the first ones of the lane."""
    now_ms = kit.clock()
    oldest_ms = now_ms
    for user_id in kit.lane.first_users(USERS_LOOKED_AT):
        with suppress(NotOwnedError):
            entry = kit.store.entry(kit.store.partition_of(user_id), user_id)
            delivery = outbox.delivery_of(entry, kit.name) if entry is not None else None
            if delivery is not None and delivery.due_since_ms:
                oldest_ms = min(oldest_ms, delivery.due_since_ms)
    return now_ms - oldest_ms
