"""What the web needs of the rest: the tables it reads and the log it writes, as two small protocols."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from app.delivery.status import LineStatus
from app.domain.items import ItemState
from app.domain.slots import Selection
from app.streams.location import Freshness, Location, WorkerStatus
from app.streams.publisher import Position, Record
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate


class Views(Protocol):
    """This worker's part of the tables, and where the other parts are.

    The lookups answer for acknowledged state only, return None for an unknown key, and raise NotOwnedError when the
    partition left between ``locate`` and the lookup. What they return is the caller's to read, not to change.
    Of a partition that another worker owns they answer from the copy that is here, if there is one: ``freshness`` says so.
    """

    def partition_of(self, key: str) -> int:
        """The partition of a user id or product id."""

    def locate(self, partition: int) -> Location: ...

    def freshness(self, partition: int) -> Freshness | None:
        """How far what is here of a users' partition is; None: nothing is."""

    def item_freshness(self, partition: int) -> Freshness | None:
        """The same of an items' partition."""

    def seen_through(self, partition: int) -> int:
        """The offset after the last event of which all that follows is done, its user's ranking too; 0 where that is not known."""

    def profile(self, user_id: str) -> Profile | None: ...

    def neighbours(self, user_id: str) -> list[NeighbourList]:
        """What the items answered to this user, answered longest ago first; empty if nothing."""

    def published(self, user_id: str, now_ms: int) -> RecommendationUpdate | None:
        """The user's last list, without what the rules forbid by now."""

    def outbox_entry(self, user_id: str) -> OutboxEntry | None:
        """What the user's destinations should have, and have."""

    def slots(self) -> Collection[str]:
        """The names of the slots."""

    def select(self, user_id: str, slot: str, now_ms: int, *, explain: bool) -> Selection:
        """The list of a slot as it is at this moment, for anybody; with ``explain`` also what was removed from it."""

    def select_for_anybody(self, slot: str, now_ms: int) -> Selection:
        """What somebody gets there of whom nothing is known."""

    def item(self, product_id: str) -> ItemState | None: ...

    def status(self) -> WorkerStatus: ...

    def destinations(self) -> list[LineStatus]:
        """How delivery goes to each destination, for the users whom this worker owns."""

    def other_workers(self) -> list[str]:
        """The addresses of the rest of the fleet, as the last assignment named them."""


class EventLog(Protocol):
    """Where accepted events go; app.streams.publisher.Publisher in a worker."""

    async def publish(self, events: Sequence[Event]) -> list[Position]:
        """Returns once Kafka acknowledged all of them; raises BrokerError when it does not."""


class RecordLog(Protocol):
    """The same for records that are made already; app.streams.publisher.Publisher of the products topic in a worker."""

    @property
    def partitions(self) -> int: ...

    async def publish_records(self, records: Sequence[Record]) -> list[Position]: ...
