"""One life of a worker: the engine, the agents, ranking and delivery as they are, over a world that answers when the scheduler lets it.

What is real: EngineApp's way from a batch to its acknowledgement and through generations, Committer, PartitionState, Recovery, the agents,
RankUsers, the outbox store and its scan, Deliverer with all that it is made of. What stands in: the broker and its clients (world.py,
broker_clients.py), RocksDB (a dict), Faust's streams (a queue for each source topic).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from faust.types import TP

from app.delivery.deliverer import Deliverer
from app.destinations.requests import Rendered
from app.domain.fields import email_is_denied
from app.domain.held_neighbours import HeldNeighbours
from app.domain.held_profile import message_of
from app.domain.models import GlobalModels
from app.domain.ranking import rank
from app.domain.recommendations import Recommendation
from app.settings import DeliverySettings, RankingSettings
from app.streams.apply_delivery_commands import ApplyDeliveryCommands
from app.streams.fold_items import ITEMS, FoldItems
from app.streams.fold_products import PRODUCTS, FoldProducts
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY, FoldProfiles
from app.streams.keep_neighbours import NEIGHBOURS, KeepNeighbours
from app.streams.outbox_store import PendingScan
from app.streams.ownership import Ownership
from app.streams.pace import BUSY_STEP_SECONDS
from app.streams.publisher import partition_of
from app.streams.rank_users import OUTBOX, RankUsers
from tests.simulation.broker_clients import Gate
from tests.simulation.flaws import Flaws
from tests.simulation.stand_ins import SimApp, SimDatabase, SimOutboxStore, SimShares, SimTable
from tests.simulation.targets import SimClient, Targets
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.world import World
from tidings.state.v1.profile_pb2 import Profile

MODELS = GlobalModels.of([])
_RANKING = RankingSettings()
_DELIVERY = DeliverySettings(resync_per_second=1000)


def rank_five(profile: Profile, held: HeldNeighbours | None, now_ms: int) -> list[Recommendation]:
    """The lists of the simulation: short, so that they change often; of no models, so that they depend on what is in the tables alone."""
    return rank(profile, held or HeldNeighbours(), MODELS, 0, 5)


class Process:
    """From its start to its death. ``disk`` outlives it."""

    def __init__(
        self, name: str, world: World, disk: dict[tuple[str, int], SimDatabase], targets: Targets, flaws: Flaws, skew_ms: int
    ) -> None:
        self.name = name
        self.world = world
        self.flaws = flaws
        self.loop = VirtualLoop(lambda: world.elapsed_ms)
        self.gates: list[Gate] = []
        self.failure: BaseException | None = None
        #: Frozen; not heard of by the coordinator, though it runs.
        self.is_paused = self.is_cut_off = False
        #: Where it is in the middle of a step, frozen.
        self._frozen: asyncio.Future[None] | None = None
        #: The coordinator has an assignment for it.
        self.is_assigned = False
        self.is_rejoining, self.has_joined = True, False
        self.is_leaving = self.is_over = self.is_dead = False
        self.generation = 0
        self.epochs: dict[int, int] = {}
        self.heartbeat_at_ms = -1_000_000
        self._skew_ms = skew_ms
        with self.loop.entered():
            self._build(disk, targets)
            self.begin(self._main())

    def clock(self) -> int:
        """Its wall clock, which is a little wrong."""
        return self.world.now_ms + self._skew_ms

    def fail(self, exc: BaseException) -> None:
        self.failure = self.failure or exc

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it beside the rest; its error is the process's end."""
        task = self.loop.create_task(work)
        task.add_done_callback(self._notice)
        return task

    def _notice(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.fail(exc)

    async def through(
        self, label: str, effect: Callable[[], Any], *, is_write: bool = False, ready: Callable[[], bool] | None = None
    ) -> Any:
        """Ask something of the world; it happens, and is answered, when the scheduler says so, or never."""
        gate = Gate(label, effect, self.loop.create_future(), is_write, ready)
        self.gates.append(gate)
        return await gate.future

    async def freeze(self) -> None:
        """In the middle of a step: when it wakes up it goes on right here, before anything else, timers that rang meanwhile included."""
        self.is_paused = True
        self._frozen = self.loop.create_future()
        self.loop.halt()
        await self._frozen

    def wake(self) -> None:
        self.is_paused = False
        if self._frozen is not None:
            self.loop.go_on_with(self._frozen)
            self._frozen = None

    def _build(self, disk: dict[tuple[str, int], SimDatabase], targets: Targets) -> None:
        """As topology.build does it."""
        world, names = self.world, self.world.names
        partitions = world.partitions
        app = self.app = SimApp(self)

        def table(name: str, codec: Any, **hidden: Any) -> SimTable:
            return app.add_table(SimTable(self, disk, name, codec, **hidden))

        profiles = self.profiles = table("profiles", PROFILES, hidden={SHARE_KEY: SHARE})
        items = table("items", ITEMS)
        neighbours = self.neighbours = table("neighbours", NEIGHBOURS)
        outbox = self.outbox = table("outbox", OUTBOX)
        products = table("products", PRODUCTS)

        def home(user_id: str) -> int:
            return partition_of(user_id.encode(), partitions)

        is_denied = self.flaws.consent(email_is_denied)

        def render(user_id: str) -> Rendered | None:
            partition = home(user_id)
            profile, entry = message_of(profiles.state(partition).get(user_id.encode())), outbox.state(partition).get(user_id.encode())
            if profile is None or entry is None or is_denied(profile):
                return None
            return Rendered(entry.update, profile)

        def may_tell(user_id: str) -> bool:
            profile = message_of(profiles.state(home(user_id)).get(user_id.encode()))
            return profile is not None and not is_denied(profile)

        held: set[int] = set()
        store: Any = SimOutboxStore(self, self.flaws.store(app, outbox, home))
        deliverer = self.deliverer = Deliverer(
            targets.destinations, store, render, may_tell=may_tell, share=lambda: len(held) / partitions,
            clock=self.clock, lease=self.flaws.lease(app.lease_is_good), settings=_DELIVERY,
            connect=lambda target: SimClient(self, targets.receivers[target.name]), is_busy=lambda: world.are_busy,
        )  # fmt: skip
        target_names = [target.name for target in targets.destinations]
        ranker = self.ranker = RankUsers(
            app, profiles, neighbours, outbox,  # type: ignore[arg-type]  # they stand in
            updates_topic=names.updates, delay_seconds=lambda partition: app.delay_seconds(names.events, partition),
            settings=_RANKING, targets=target_names, rank=rank_five, due=deliverer.due, clock=self.clock, monotonic=self.loop.time,
            step_seconds=lambda: BUSY_STEP_SECONDS if world.are_busy else 0.0,
        )  # fmt: skip
        if world.has_shares:
            self.shares = SimShares(app, profiles, names.shares, partitions=partitions, interval_seconds=5)  # type: ignore[arg-type]
        app.batched_agent("fold_profiles", profiles, [names.events], FoldProfiles(names, partitions, ranker.dirty).apply)
        app.batched_agent("fold_items", items, [names.visits], FoldItems(names, partitions).apply)
        app.batched_agent("keep_neighbours", neighbours, [names.neighbours], KeepNeighbours(names, partitions, ranker.dirty).apply)
        if world.has_products:
            products = table("products", PRODUCTS)
            app.batched_agent("fold_products", products, [names.products], FoldProducts(names, partitions).apply, urgent=True)
        if world.has_commands:
            commands = ApplyDeliveryCommands(names, partitions, target_names, deliverer.due, deliverer.due_again)
            app.batched_agent("apply_delivery_commands", outbox, [names.delivery_commands], commands.apply)
        pending = PendingScan(store, deliverer.due, deliverer.due_again, self.fail)
        Ownership(deliverer, ranker, pending, held).follow(app, names)

    # The group ----------------------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        for run in self.app.agents:
            self.begin(run())
        await self.deliverer.start()
        self.begin(self.deliverer.wait())
        if self.world.has_shares:
            self.begin(self.shares.follow())
            self.begin(self.shares.publish())
        await self._join()

    async def _join(self) -> None:
        await self.through("joins the group", lambda: self.world.group.join(self))
        self.has_joined = True

    def hear_of_rebalance(self) -> None:
        """A heartbeat's answer: all partitions are revoked, then it joins again."""
        self.is_rejoining, self.has_joined = True, False
        with self.loop.entered():
            self.begin(self._rejoin())

    async def _rejoin(self) -> None:
        self.app.recovery.on_partitions_revoked(set())
        await self.app.consumer.wait_empty()
        await self._join()

    def get_assignment(self) -> None:
        group = self.world.group
        self.is_assigned = self.is_rejoining = self.has_joined = False
        self.generation = group.generation
        actives, standbys = group.actives.get(self, set()), group.standbys.get(self, set())
        topics = [*self.app.sources, *self.app.tables.changelog_topics]
        self.app.assignor.actives = {TP(topic, p) for topic in topics for p in actives}
        self.app.assignor.standbys = {TP(topic, p) for topic in self.app.tables.changelog_topics for p in standbys}
        with self.loop.entered():
            self.begin(self.app.recovery.on_rebalance(set(), set(), set(), self.generation))

    def stop(self) -> None:
        """SIGTERM."""
        self.is_leaving = self.is_rejoining = True
        with self.loop.entered():
            self.begin(self._stop())

    async def _stop(self) -> None:
        for prepare in self.app.before_stop:
            await prepare()
        self.app.recovery.on_partitions_revoked(set())
        await self.app.consumer.wait_empty()
        await self.through("leaves the group", lambda: self.world.group.leave(self))
        self.is_over = True

    # For the scheduler ----------------------------------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether the coordinator would tell it of a rebalance, or that it is no member any more."""
        if self.is_cut_off or self.is_leaving or (self.is_rejoining and not self.has_joined):
            return False
        group = self.world.group
        return self not in group.members or (group.is_rebalancing and not self.is_rejoining)

    @property
    def reader_runs(self) -> bool:
        """Whether it has recovered, and works."""
        return self.app.reader is not None and bool(self.app.reader.positions)

    @property
    def was_replaced(self) -> bool:
        """Whether somebody else owns what it believes to own."""
        return any(self.world.epochs[partition] != epoch for partition, epoch in self.epochs.items())

    @property
    def is_idle(self) -> bool:
        """Nothing that it read, nobody whom it should rank or tell about, is left."""
        app = self.app
        if self.is_rejoining or self.is_assigned or app.reader is None or self.loop.has_ready or any(map(Gate.is_open, self.gates)):
            return False
        if any(queue for queue in app.consumer.delivered()) or any(committer.is_busy for committer in app.committers.values()):
            return False
        if self.ranker._ranking or any(map(len, self.ranker._dirty.values())):
            return False
        return not any(len(line.lane) for line in self.deliverer._lines)
