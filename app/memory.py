"""What a worker may hold in memory: every buffer, its bound, and what happens when it is full. docs/memory.md says the same in words.

Each bound stands where the buffer is; here they are put together, and summed. Figures are of memory, not of what is encoded: an object
takes several times its bytes, by the factors below, which were measured. The sum is what all buffers take when all are full at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.jobs import MAX_PEOPLE
from app.delivery.lane import MAX_USERS
from app.delivery.pace import CLAIMS_PER_REQUEST, REQUESTS_AHEAD
from app.destinations import JobBased, destination_of
from app.destinations.list_json import MAX_PIECES
from app.domain.held_profile import MAX_MESSAGES
from app.engine import changelog_reader, source
from app.engine.app import MAX_UNDECIDED, ROOM
from app.engine.broadcast import READ_AHEAD_BYTES as BROADCAST_BYTES
from app.engine.commit import MAX_UNWRITTEN_BYTES
from app.engine.store import FLUSH_LAG_BYTES
from app.settings import Settings
from app.streams.catalog import BYTES_A_PRODUCT
from app.streams.catalog import READ_AHEAD_BYTES as CATALOG_BYTES
from app.streams.fold_profiles import MAX_KNOWN_PRODUCTS
from app.streams.publisher import MAX_BUFFERED_BYTES
from app.streams.rank_users import MAX_DIRTY_USERS
from app.streams.topics import TABLES
from app.web.intake import MAX_BODY_BYTES_AT_ONCE, MEMORY_FACTOR
from app.web.server import MAX_CONNECTIONS

#: A fetched record beside the fetch that it came in, in times of its bytes: small ones are mostly objects.
_UNPACKED = 6
#: Bytes of one: a batch that waits to be committed, a user who waits for a ranking, one in a lane, one who is claimed, a remembered name.
_BATCH, _DIRTY_USER, _LANE_USER, _CLAIM, _NAME = 1_500, 400, 300, 2_000, 250
#: Of a profile that was read: twice what one takes with a hundred products in its history.
_MESSAGE = 30_000
#: Of a kept piece of JSON, with its key and their places: a reason's, with and without titles, or a product's.
_PIECE, _KINDS_OF_PIECES = 600, 3
#: Of a connection: what aiohttp reads ahead, and a request's headers.
_CONNECTION = 150_000
#: The interpreter and what is imported, before anything is done (measured).
PROCESS_BYTES = 130 * 1024**2
#: Topics that workers read by partition.
_SOURCES = 5


@dataclass(frozen=True)
class Bound:
    """One buffer. ``when_full`` is a clause."""

    name: str
    bytes: int
    when_full: str


def bounds_of(settings: Settings, partitions: int) -> list[Bound]:
    """Of a worker that owns so many partitions."""
    worker, sources = settings.worker, _SOURCES * partitions
    fetch = source.fetch_bytes(sources) * sources
    changelogs = changelog_reader.fetch_bytes(len(TABLES) * partitions) * len(TABLES) * partitions
    return [
        Bound("source records fetched", fetch * (1 + _UNPACKED), "their partitions are fetched no further"),
        Bound("source records with their agents", ROOM * sources * source.BATCH_BYTES * _UNPACKED, "the partition gets no further batch"),
        Bound("batches that wait to be committed", MAX_UNDECIDED * sources * _BATCH, "the partition gets no further batch"),
        Bound(
            "made and not written", 2 * (MAX_UNWRITTEN_BYTES + (_SOURCES + 2) * worker.batch_max_bytes),
            "nothing is read, and a batch that is being applied waits",
        ),
        Bound("decoded objects of the tables", worker.cache_bytes, "those that were not asked for lately are forgotten"),
        Bound("profiles as messages", MAX_MESSAGES * _MESSAGE, "those that were not read lately are read again"),
        Bound(
            "RocksDB", worker.block_cache_bytes + FLUSH_LAG_BYTES,
            "blocks are forgotten, memtables flushed, and nothing is read while the disk is behind",
        ),
        Bound(
            "changelogs read ahead, in a recovery and for standbys", 2 * changelogs * 2, "their partitions are fetched no further"
        ),
        Bound("catalog, shares and destinations read ahead", 2 * (CATALOG_BYTES + 2 * BROADCAST_BYTES), "the same"),
        Bound("the catalog's decoded products", worker.catalog_cache_products * BYTES_A_PRODUCT, "the disk is asked"),
        Bound(
            "pieces of lists as JSON", _KINDS_OF_PIECES * MAX_PIECES * _PIECE,
            "all of a kind are forgotten; those that recur are made again",
        ),
        Bound(
            "users who wait for their ranking", MAX_DIRTY_USERS * partitions * _DIRTY_USER,
            "the partition's events and answers are not read",
        ),
        Bound("partitions of users and products", 3 * MAX_KNOWN_PRODUCTS * _NAME, "they are worked out again"),
        Bound(
            "posted bodies", max(MAX_BODY_BYTES_AT_ONCE, settings.http.max_body_bytes) * MEMORY_FACTOR,
            "503 with Retry-After, at once",
        ),
        Bound(
            "records on their way to Kafka", 2 * 2 * MAX_BUFFERED_BYTES,
            "callers wait for room, and get 503 with Retry-After after kafka.request_timeout_seconds",
        ),
        Bound("connections of HTTP clients", MAX_CONNECTIONS * _CONNECTION, "further ones are closed at once"),
        *(_lane_of(settings, number) for number in range(len(settings.targets))),
        Bound("the process itself", PROCESS_BYTES, "it is what it is"),
    ]


def _lane_of(settings: Settings, number: int) -> Bound:
    target = destination_of(settings.targets[number])
    limits = target.limits
    claims = max(CLAIMS_PER_REQUEST * limits.concurrency, REQUESTS_AHEAD * limits.people) + limits.concurrency * limits.people
    if isinstance(target, JobBased):
        claims += MAX_PEOPLE
    requests = min(limits.concurrency, settings.delivery.max_in_flight) * (2 * limits.body_bytes + limits.response_bytes)
    return Bound(
        f"the lane, claims and requests of {target.name}", 2 * MAX_USERS * _LANE_USER + claims * _CLAIM + requests,
        "users are left out of the lane and looked for in the outbox when it has room; nobody is claimed",
    )


def sum_of(bounds: list[Bound]) -> int:
    """In bytes."""
    return sum(bound.bytes for bound in bounds)
