"""The comparison at the end of a run: tables, topics and targets against a plain fold of what came in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from app.delivery.commands import is_given_up
from app.delivery.outbox import MAX_FLIGHT_MS, is_due
from app.domain.catalog_fold import encode_entry, fold_product, new_entry
from app.domain.fields import email_is_denied
from app.domain.held_neighbours import HeldNeighbours, decode_held_neighbours
from app.domain.items import decode_item
from app.domain.plain_fold import PlainTables, plain_fold
from app.domain.product_validation import decode_product, product_id_of
from app.domain.recommendations import list_digest
from app.domain.share import decode_share
from app.domain.validation import Violation, decode_event
from app.engine.store import HIDDEN_PREFIX
from app.streams.fold_profiles import SHARE_KEY
from tests.simulation.process import rank_five
from tests.simulation.targets import Targets
from tests.simulation.world import MAX_SKEW_MS, World
from tidings.internal.v1.dead_letter_pb2 import DeadLetter
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

if TYPE_CHECKING:
    from tests.simulation.scheduler import Worker

Place = tuple[str, int, int]


def compare(world: World, targets: Targets, workers: Iterable[Worker]) -> None:
    """Raises AssertionError where the run did not come to what the logs say."""
    bad: set[Place] = set()
    plain = _fold_events(world, bad)
    _compare_tables(world, plain)
    assert _visible(world, "products") == _fold_products(world, bad), "products are not their plain fold"
    places = range(world.partitions)
    letters = [DeadLetter.FromString(value or b"") for p in places for _, value, _ in world.logs[world.names.dead_letters, p].records]
    assert {(letter.topic, letter.partition, letter.offset) for letter in letters} == bad, "dead letters"
    entries = {key.decode(): OutboxEntry.FromString(value) for key, value in _visible(world, "outbox").items()}
    profiles = {key.decode(): Profile.FromString(value) for key, value in _visible(world, "profiles").items() if key != SHARE_KEY}
    _compare_lists(world, plain, profiles, entries)
    _compare_targets(targets, profiles, entries)
    if world.has_shares:
        _compare_shares(plain, workers)
    for worker in workers:
        for (table, partition), database in worker.disk.items():
            raw = world.logs[world.names.changelogs[table], partition].records
            prefix = dict((key, value) for key, value, _ in raw[: 0 if database.offset is None else database.offset + 1])
            assert database.values == {k: v for k, v in prefix.items() if v is not None}, "a database is a prefix of its changelog"


def _visible(world: World, table: str) -> dict[bytes, bytes]:
    values = {}
    for partition in range(world.partitions):
        values |= {key: value for key, value in world.changelog(table, partition).items() if not key.startswith(HIDDEN_PREFIX)}
    return values


def _fold_events(world: World, bad: set[Place]) -> PlainTables:
    events = []
    for partition in range(world.partitions):
        for offset, (key, value, timestamp) in enumerate(world.logs[world.names.events, partition].records):
            event = decode_event(value or b"", key, timestamp)
            if isinstance(event, Violation):
                bad.add((world.names.events, partition, offset))
            else:
                events.append((partition, offset, event))
    return plain_fold(events)


def _fold_products(world: World, bad: set[Place]) -> dict[bytes, bytes]:
    entries: dict[bytes, CatalogEntry] = {}
    for partition in range(world.partitions):
        for offset, (key, value, timestamp) in enumerate(world.logs[world.names.products, partition].records):
            assert key is not None
            product_id = product_id_of(key)
            if value is None:
                if product_id == key:
                    entries.pop(product_id, None)
                continue
            product = decode_product(value, key, timestamp)
            if isinstance(product, Violation):
                bad.add((world.names.products, partition, offset))
                continue
            fold_product(entries.setdefault(product_id, new_entry(product_id.decode())), product, timestamp)
    return {product_id: encode_entry(entry) for product_id, entry in entries.items()}


def _compare_tables(world: World, plain: PlainTables) -> None:
    raw = {p: world.changelog("profiles", p).get(SHARE_KEY) for p in range(world.partitions)}
    assert {p: decode_share(value) for p, value in raw.items() if value is not None} == plain.shares, "shares are not their plain fold"
    profiles = {key.decode(): value for key, value in _visible(world, "profiles").items()}
    assert profiles == {user: profile.SerializeToString() for user, profile in plain.profiles.items()}, "profiles are not their plain fold"
    items = {key.decode(): decode_item(value) for key, value in _visible(world, "items").items()}
    assert items == plain.items, "items are not their plain fold"


def _compare_lists(world: World, plain: PlainTables, profiles: dict[str, Profile], entries: dict[str, OutboxEntry]) -> None:
    """Nobody is left with an old list, and the newest version of it is what the updates topic ends with."""
    assert entries.keys() == plain.profiles.keys(), "somebody was not ranked"
    updates: dict[tuple[str, int], int] = {}
    newest: dict[str, int] = {}
    for partition in range(world.partitions):
        for _, value, _ in world.logs[world.names.updates, partition].records:
            update = RecommendationUpdate.FromString(value or b"")
            digest = list_digest(update.recommendations)
            assert updates.setdefault((update.user_id, update.version), digest) == digest, "a version is one list"
            newest[update.user_id] = max(newest.get(update.user_id, 0), update.version)
    held = {key.decode(): decode_held_neighbours(value) for key, value in _visible(world, "neighbours").items()}
    for user, entry in entries.items():
        ranked = rank_five(profiles[user], held.get(user, HeldNeighbours()), 0)
        assert entry.list_digest == list_digest(ranked), f"{user} has an old list"
        assert entry.update.version == newest.get(user), f"a receiver of updates that ignores lower versions has another list of {user}"
    _compare_versions(world)


def _compare_versions(world: World) -> None:
    """Neither a list's version nor what a target confirmed of it ever goes back; and whoever is in a job can be asked for."""
    for partition in range(world.partitions):
        seen: dict[Any, int] = {}
        for key, value, written_ms in world.logs[world.names.changelogs["outbox"], partition].records:
            if key is None or value is None or key.startswith(HIDDEN_PREFIX):
                continue
            entry = OutboxEntry.FromString(value)
            for what, version in ((key, entry.update.version), *(((key, d.target), d.confirmed_version) for d in entry.deliveries)):
                assert version >= seen.get(what, 0), f"{what} went back from {seen[what]} to {version}"
                seen[what] = version
            for delivery in entry.deliveries:
                is_long = delivery.in_flight_until_ms - written_ms > MAX_FLIGHT_MS + MAX_SKEW_MS
                assert delivery.job or not is_long, f"{entry.user_id} is in a job at {delivery.target} that nobody can ask for"


def _compare_targets(targets: Targets, profiles: dict[str, Profile], entries: dict[str, OutboxEntry]) -> None:
    """Every update's final state came to every target, but of those who may not be told about."""
    for user, entry in entries.items():
        products = [one.product_id for one in entry.update.recommendations]
        for delivery in entry.deliveries:
            assert not is_due(delivery), f"{user} is due at {delivery.target}"
            if email_is_denied(profiles[user]) or is_given_up(delivery) or not delivery.desired_version:
                continue
            has = targets.receivers[delivery.target].has.get(user)
            assert has is not None, f"{delivery.target} got nothing about {user}"
            assert has[1] == products, f"{delivery.target} has another list of {user}: version {has[0]}, not {entry.update.version}"


def _compare_shares(plain: PlainTables, workers: Iterable[Worker]) -> None:
    """Every worker's models are made of what all partitions learned."""
    for worker in workers:
        assert worker.process is not None
        assert worker.process.shares._shares == plain.shares, f"{worker.name} adds up other shares"
