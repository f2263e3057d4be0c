"""What is connected to what: topics, tables, agents and the services around them. ``build(settings)`` makes the app and starts nothing.

events ──► fold_profiles ──► profiles ─────┬──► rank_users ──► updates
             │ visits                      │        └──────► outbox ──► deliver ──► targets
             ▼                             │
           fold_items ──► items            │      shares ──► global models (every worker)
             │ neighbours                  │
             ▼                             │
           keep_neighbours ──► neighbours ─┘
products ──► fold_products ──► products ──► catalog (a copy on every worker)
delivery commands ──► apply_delivery_commands ──► outbox
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.delivery.deliverer import Deliverer
from app.destinations import destination_of
from app.destinations.requests import Rendered
from app.domain.fields import email_is_denied
from app.domain.held_profile import RecentMessages
from app.domain.rules import Rules
from app.domain.slots import slots_of
from app.engine import EngineApp, EngineOptions, Table
from app.engine.progress import can_write, works_of
from app.engine.watchdog import Work
from app.settings import Settings
from app.streams.apply_delivery_commands import ApplyDeliveryCommands
from app.streams.catalog import MAX_AGE_MS, CatalogCopy
from app.streams.destination_states import DestinationStates
from app.streams.fold_items import ITEMS, FoldItems
from app.streams.fold_products import PRODUCTS, FoldProducts
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY, FoldProfiles
from app.streams.kafka_client import kafka_client
from app.streams.keep_neighbours import NEIGHBOURS, KeepNeighbours
from app.streams.outbox_store import PendingScan, TableOutboxStore
from app.streams.ownership import Ownership
from app.streams.pace import BUSY_STEP_RECORDS, BUSY_STEP_SECONDS, SourcePace, users_delay
from app.streams.publish_shares import Shares
from app.streams.publisher import partition_of
from app.streams.rank_users import OUTBOX, RankUsers
from app.streams.recommender import Recommender
from app.streams.topics import TopicNames
from app.streams.views import TableViews

#: The group member fetches nothing itself, so aiokafka's "no poll for so long, leave the group" must not apply.
NEVER_SECONDS = 1e8
#: Changes of products wait for one another this long, unless so many records of a partition wait already: they must be in force within a
#: second, and one write for many costs a third of many writes.
PRODUCTS_EVERY_SECONDS = 0.2
PRODUCTS_BEHIND = 500
#: With items or events later than this, nobody is asked for a second hop.
MAY_ASK_SECONDS = 1.0
#: Of worker.cache_bytes, what each table's decoded objects may take.
CACHE_SHARES = {"profiles": 0.1, "items": 0.2, "neighbours": 0.35, "outbox": 0.3, "products": 0.05}


@dataclass(frozen=True)
class Topology:
    """A worker's parts, connected."""

    app: EngineApp
    views: TableViews
    deliverer: Deliverer
    ranker: RankUsers
    #: Before its ``caught_up`` is set, it is not all there, and nobody is ranked.
    catalog: CatalogCopy
    #: What must go on, as it stands now: for the watchdog.
    works: Callable[[], list[Work]]
    #: What runs beside the agents, until cancelled.
    background: list[Callable[[], Awaitable[None]]]


def build(settings: Settings, *, advertised_url: str, fail: Callable[[BaseException], None] | None = None) -> Topology:
    """The whole topology. ``fail`` is called, once, with what must stop the process."""
    kafka, worker = settings.kafka, settings.worker
    names, partitions = TopicNames.of(kafka), kafka.partitions
    app = _new_app(settings, advertised_url, fail)

    def table(name: str, codec: Any, **kwargs: Any) -> Table[Any]:
        made: Table[Any] = Table(
            app, name=name, codec=codec, partitions=partitions, cache_bytes=int(worker.cache_bytes * CACHE_SHARES[name]), **kwargs
        )
        app.tables.add(made)
        return made

    profiles = table("profiles", PROFILES, hidden={SHARE_KEY: SHARE})
    items = table("items", ITEMS)
    neighbours = table("neighbours", NEIGHBOURS)
    outbox = table("outbox", OUTBOX)
    products = table("products", PRODUCTS)

    def partition_of_id(id: str) -> int:
        return partition_of(id.encode(), partitions)

    store = TableOutboxStore(app, outbox, partition_of_id)

    shares = Shares(app, profiles, names.shares, partitions=partitions, interval_seconds=settings.ranking.share_interval_seconds)
    catalog = CatalogCopy(
        app.reader_client,
        names.changelogs["products"],
        partitions,
        worker.data_dir / "catalog.db",
        cache_products=worker.catalog_cache_products,
        block_cache_bytes=worker.block_cache_bytes,
        ends_are_exact=not kafka.allow_unfenced,
        fail=app.fail,
    )
    recommender = Recommender(lambda: shares.models, catalog, slots_of(settings), Rules.of(settings.rules))

    message_of = RecentMessages().message_of

    def render(user_id: str) -> Rendered | None:
        partition = partition_of_id(user_id)
        profile, entry = message_of(profiles.state(partition).get(user_id.encode())), outbox.state(partition).get(user_id.encode())
        if profile is None or entry is None or email_is_denied(profile):
            return None
        now = recommender.as_of_now(entry.update, profile, lambda: neighbours.state(partition).get(user_id.encode()), _now_ms())
        return Rendered(now, profile, catalog)

    def may_tell(user_id: str) -> bool:
        profile = message_of(profiles.state(partition_of_id(user_id)).get(user_id.encode()))
        return profile is not None and not email_is_denied(profile)

    held: set[int] = set()

    delay_seconds = users_delay(app.delay_seconds, names, held)
    deliverer = Deliverer(
        [destination_of(target) for target in settings.targets],
        store,
        render,
        may_tell=may_tell,
        share=lambda: len(held) / partitions,
        refresh_days={target.name: target.refresh_days for target in settings.targets},
        clock=_now_ms,
        lease=app.lease_is_good,
        settings=settings.delivery,
        is_busy=app.is_busy,
    )
    ranker = RankUsers(
        app,
        profiles,
        neighbours,
        outbox,
        updates_topic=names.updates,
        delay_seconds=delay_seconds,
        settings=settings.ranking,
        targets=[target.name for target in settings.targets],
        rank=recommender.rank,
        due=deliverer.due,
        message_of=message_of,
        step_seconds=lambda: BUSY_STEP_SECONDS if app.is_busy() else 0.0,
    )
    app.batched_agent("fold_profiles", profiles, [names.events], FoldProfiles(names, partitions, ranker.dirty).apply)
    app.batched_agent("fold_items", items, [names.visits], FoldItems(names, partitions).apply)
    keeper = KeepNeighbours(names, partitions, ranker.dirty, lambda partition: delay_seconds(partition) < MAY_ASK_SECONDS)
    app.batched_agent("keep_neighbours", neighbours, [names.neighbours], keeper.apply)
    # A change of stock or price must be in force within a second, however many events wait.
    app.batched_agent("fold_products", products, [names.products], FoldProducts(names, partitions).apply, urgent=True)
    targets = [target.name for target in settings.targets]
    commands = ApplyDeliveryCommands(names, partitions, targets, deliverer.due, deliverer.due_again)
    app.batched_agent("apply_delivery_commands", outbox, [names.delivery_commands], commands.apply)

    states = DestinationStates(
        app.reader_client,
        app.writer,
        names.destinations,
        deliverer.breakers,
        partitions=partitions,
        worker=advertised_url,
        on_change=deliverer.wake,
    )

    pending = PendingScan(store, deliverer.due, deliverer.due_again, app.fail)

    async def ready() -> None:
        # Part of a catalog would take products out of lists. At start the group is joined only after this (app/worker.py); later it holds
        # back the partitions of a worker whose copy is being made anew.
        await catalog.caught_up.wait()
        # Nor is anything sent to a destination that was found to take nothing, or that an operator paused, before this worker began.
        await states.caught_up.wait()

    Ownership(deliverer, ranker, pending, held, ready).follow(app, names)
    pace = SourcePace(names.products, PRODUCTS_EVERY_SECONDS, lambda tp: app.lag(tp.topic, tp.partition) > PRODUCTS_BEHIND, app.room_made)
    app.may_read.append(pace.may_read)
    # No view waits for visits. What is answered to those of one moment comes together by itself: it need not wait once more, and a list is
    # ranked again if it comes too late.
    visits_pace = SourcePace(
        names.visits, BUSY_STEP_SECONDS, lambda tp: app.lag(tp.topic, tp.partition) > BUSY_STEP_RECORDS, app.room_made,
        is_needed=app.is_busy,
    )
    app.may_read.append(visits_pace.may_read)
    views = TableViews(
        app, profiles, items, neighbours, outbox, recommender,
        events_topic=names.events, visits_topic=names.visits,
        partitions=partitions, advertised_url=advertised_url, line_statuses=deliverer.status,
    )
    background: list[Callable[[], Awaitable[None]]] = [
        shares.follow, shares.publish, catalog.follow, states.follow, states.tell, deliverer.wait, views.report, views.follow_ends,
    ]

    def works() -> list[Work]:
        is_written = can_write(app)
        return [
            *works_of(app, lambda: (catalog.position, catalog.caught_up.is_set(), states.caught_up.is_set())),
            *(
                Work(
                    f"deliver {line.name}", line.turns_ended, line.is_owed and is_written,
                    f"users are due at {line.name}, which may be sent to, and nothing comes of it", line.wire_seconds,
                )
                for line in deliverer.progress()
            ),
        ]  # fmt: skip

    return Topology(app, views, deliverer, ranker, catalog, works, background)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_app(settings: Settings, advertised_url: str, fail: Callable[[BaseException], None] | None) -> EngineApp:
    kafka, worker = settings.kafka, settings.worker
    options = EngineOptions(
        bootstrap_servers=kafka.bootstrap_servers,
        batch_max_records=worker.batch_max_records,
        batch_max_bytes=worker.batch_max_bytes,
        block_cache_bytes=worker.block_cache_bytes,
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        fetch_linger_ms=kafka.fetch_linger_ms,
        request_timeout_seconds=kafka.request_timeout_seconds,
        allow_unfenced=kafka.allow_unfenced,
        max_copy_age_ms={"products": MAX_AGE_MS},
        client=kafka_client(kafka),
    )
    return EngineApp(
        kafka.application_id,
        options=options,
        worker_name=advertised_url,
        fail=fail,
        datadir=worker.data_dir,
        canonical_url=advertised_url,
        topic_partitions=kafka.partitions,
        topic_replication_factor=kafka.replication_factor,
        table_standby_replicas=worker.standby_replicas,
        broker_commit_interval=kafka.commit_interval_seconds,
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.heartbeat_interval_seconds,
        broker_rebalance_timeout=kafka.rebalance_timeout_seconds,
        # Faust's consumer wants it above the session time-out; the engine's own requests use the setting as it is.
        broker_request_timeout=max(kafka.request_timeout_seconds, kafka.session_timeout_seconds, kafka.rebalance_timeout_seconds) + 5,
        broker_max_poll_interval=NEVER_SECONDS,
    )
