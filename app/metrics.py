"""Every metric of Tidings, declared once.

Names are ``tidings_<what>_<unit>`` in base units. Labels come from closed sets (topic, partition, target, outcome), never from users or
items.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

EVENT_TO_PROFILE = Histogram(
    "tidings_event_to_profile_seconds",
    "From the record's Kafka timestamp until the folded profile is acknowledged in the changelog.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
EVENT_TO_UPDATE = Histogram(
    "tidings_event_to_update_seconds",
    "From the Kafka timestamp of the first event a changed list answers until its update is acknowledged on the updates topic.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
EVENT_TO_DELIVERY = Histogram(
    "tidings_event_to_delivery_seconds",
    "From the Kafka timestamp of the first undelivered event until the target confirmed the list.",
    ["target"],
    buckets=_LATENCY,
    registry=REGISTRY,
)
READ = Histogram(
    "tidings_read_seconds", "Time to answer an HTTP request, by route and status.", ["route", "status"], buckets=_LATENCY, registry=REGISTRY
)
RANKING = Histogram(
    "tidings_ranking_seconds",
    "Time to rank one user.",
    buckets=(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01),
    registry=REGISTRY,
)
FLUSH = Histogram(
    "tidings_flush_seconds",
    "From sending a table's batch until the changelog acknowledged it.",
    ["table"],
    buckets=_LATENCY,
    registry=REGISTRY,
)

EVENTS = Counter(
    "tidings_events_total",
    "Events by outcome: applied, duplicate (a client's retry), denied (no consent to profiling), dead_lettered.",
    ["outcome"],
    registry=REGISTRY,
)
RECORDS_SKIPPED = Counter(
    "tidings_records_skipped_total",
    "Records at or below the applied offset: replayed after a restart, already in the state.",
    ["topic"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter("tidings_dead_letters_total", "Dead letters by reason.", ["topic", "reason"], registry=REGISTRY)
VISITS = Counter(
    "tidings_visits_total", "Item visits by outcome: applied, duplicate; question (it changes nothing).", ["outcome"], registry=REGISTRY
)
NEIGHBOURS = Counter(
    "tidings_neighbours_total", "Neighbour lists by outcome: applied, outdated.", ["outcome"], registry=REGISTRY
)
PRODUCTS = Counter(
    "tidings_products_total",
    "Records of the products topic by outcome: applied, unchanged (nothing new in it), deleted, dead_lettered.",
    ["outcome"],
    registry=REGISTRY,
)
RANKINGS = Counter("tidings_rankings_total", "Rankings by outcome: changed, unchanged.", ["outcome"], registry=REGISTRY)
DELIVERIES = Counter(
    "tidings_deliveries_total",
    "People by target and by what came of an attempt for them: confirmed, accepted (into a job), suppressed (the target has just this), "
    "retried, rejected, throttled, down (one for each request), split (one for each request that went again by halves), refused (the "
    "address), unresolved (its name), abandoned, withheld, unchanged (not sent), stopped (marked and not sent: no lease, or the target "
    "became slow).",
    ["target", "outcome"],
    registry=REGISTRY,
)
DELIVERY_COMMANDS = Counter(
    "tidings_delivery_commands_total",
    "Operators' commands by action (retry, drop, resync) and outcome: applied, unchanged, outdated (given up or confirmed since), unknown "
    "(no such user or target), dead_lettered.",
    ["action", "outcome"],
    registry=REGISTRY,
)
INGESTED = Counter(
    "tidings_ingested_total", "Events at POST /v1/events by outcome: accepted, invalid, failed.", ["outcome"], registry=REGISTRY
)

LAG = Gauge(
    "tidings_lag_records",
    "Records between the broker's end of a source partition and what is applied.",
    ["topic", "partition"],
    registry=REGISTRY,
)
PARTITIONS = Gauge("tidings_partitions_owned", "Partitions this worker owns, by role: active, standby.", ["role"], registry=REGISTRY)
DELIVERY_PEOPLE = Histogram(
    "tidings_delivery_people_count",
    "People in a request to a target that takes several at once; those of the others are about one.",
    ["target"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000),
    registry=REGISTRY,
)
OUTBOX_RESYNC = Gauge("tidings_outbox_resync_users", "Users who wait to be sent once more, by target.", ["target"], registry=REGISTRY)
OUTBOX_OLDEST = Gauge(
    "tidings_outbox_oldest_due_seconds",
    "Since the oldest event that is not delivered yet, by target, among the first users of its lane; 0: all are.",
    ["target"],
    registry=REGISTRY,
)
BREAKER = Gauge(
    "tidings_destination_breaker_state",
    "1 for what a target's circuit breaker is: closed, half_open, or why it is open (errors, parked, auth, configuration, gone, operator).",
    ["target", "state"],
    registry=REGISTRY,
)
OUTBOX_DUE = Gauge("tidings_outbox_due_users", "Users whose last list is not confirmed yet, by target.", ["target"], registry=REGISTRY)
IN_FLIGHT = Gauge("tidings_deliveries_in_flight", "Requests on the wire, by target.", ["target"], registry=REGISTRY)
RECOVERY = Gauge("tidings_recovery_seconds", "How long the last recovery took.", registry=REGISTRY)
RECOVERED = Counter(
    "tidings_recovered_records_total", "Changelog records applied in recovery and by standbys.", ["table"], registry=REGISTRY
)
STATE_THROWN_AWAY = Counter(
    "tidings_state_thrown_away_total", "Local copies of a table's partition that could not be used and were made again.", ["table"],
    registry=REGISTRY,
)  # fmt: skip
REBALANCES = Counter("tidings_rebalances_total", "Assignments received from the group.", registry=REGISTRY)
FENCED = Gauge("tidings_fence_active", "1 while partition writers are fenced by the broker (0 on the embedded broker).", registry=REGISTRY)
CATALOG_PRODUCTS = Gauge("tidings_catalog_products_count", "Products listed in this worker's copy of the catalog.", registry=REGISTRY)
CATALOG_BYTES = Gauge("tidings_catalog_bytes", "Bytes on disk of this worker's copy of the catalog.", registry=REGISTRY)
CATALOG_CHANGES = Counter(
    "tidings_catalog_changes_total", "Changelog records of the products table that this worker's copy took over.", registry=REGISTRY
)
CATALOG_LAG = Gauge(
    "tidings_catalog_lag_records", "Records of the products table's changelog that this worker's copy has not taken over yet.",
    registry=REGISTRY,
)
PRODUCT_TO_CATALOG = Histogram(
    "tidings_product_to_catalog_seconds",
    "From the changelog record of a changed product until this worker's copy of the catalog has it.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
MEMORY_BYTES = Gauge(
    "tidings_memory_bytes",
    "What this worker holds in memory: resident (all of it), rocksdb (blocks, indexes and what is not flushed), decoded_<table> (its "
    "objects, by estimate), unwritten (made and not acknowledged) and fetched (read and not handed out), these two as bytes of values.",
    ["part"],
    registry=REGISTRY,
)
STATE_BYTES = Gauge("tidings_state_bytes", "Bytes on disk of a table's partitions here.", ["table"], registry=REGISTRY)


def observe_many(histogram: Histogram, value: float, count: int) -> None:
    """Observe one value ``count`` times for the price of one: the library has no call for it, and a batch has hundreds of equals."""
    place = bisect_left(histogram._upper_bounds, value)
    histogram._buckets[place].inc(count)
    histogram._sum.inc(value * count)
