"""The oracle: what the tables hold after a log of events, computed in one process with dicts. No Kafka, no batches, no marks.

Simulations and end-to-end runs end in tables equal to these: profiles byte for byte, counts of items exactly, their neighbours wherever
`evicted_count` is 0. What the items answered to each person (the neighbours table) is as of when they answered, so it is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.domain.items import ItemState, apply_visit, new_item
from app.domain.profile import Applied, Denied, Duplicate, fold_event, new_profile
from app.domain.share import Share, fold_share, new_share
from app.domain.visits import visits_of
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.profile_pb2 import Profile


@dataclass(slots=True)
class PlainTables:
    """The tables as dicts: by user id, by product id, by events partition."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    items: dict[str, ItemState] = field(default_factory=dict)
    shares: dict[int, Share] = field(default_factory=dict)

    def fold(self, event: Event, partition: int = 0, offset: int = 0) -> Applied | Duplicate | Denied:
        """Apply one valid event, and at once all that follows from it."""
        profile = self.profiles.get(event.user_id)
        if profile is None:
            profile = self.profiles[event.user_id] = new_profile(event.user_id)
        outcome = fold_event(profile, event)
        if not isinstance(outcome, Applied):
            return outcome
        for interaction in outcome.interactions:
            share = self.shares.get(partition)
            if share is None:
                share = self.shares[partition] = new_share(partition)
            fold_share(share, interaction)
            for visit in visits_of(interaction, offset):
                item = self.items.get(visit.product_id)
                if item is None:
                    item = self.items[visit.product_id] = new_item(visit.product_id)
                apply_visit(item, visit)
        return outcome


def plain_fold(events: Iterable[tuple[int, int, Event]]) -> PlainTables:
    """The tables after these events, each with its partition and offset. Only the order within a partition matters."""
    tables = PlainTables()
    for partition, offset, event in events:
        tables.fold(event, partition, offset)
    return tables
