"""What every run ends in: the tables in Kafka against the plain fold of the events topic, and the inbox against the outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from app.delivery.commands import is_given_up
from app.delivery.outbox import delivery_of, is_due
from app.domain.held_neighbours import MAX_NEIGHBOUR_LISTS, HeldNeighbours, decode_held_neighbours
from app.domain.items import ItemState
from app.domain.plain_fold import PlainTables
from app.domain.profile import Applied, Denied, Duplicate
from app.domain.recommendations import Recommendation, list_digest
from app.domain.validation import Violation, decode_event
from app.streams.fold_profiles import ASTRAY
from app.streams.publisher import partition_of
from tests.e2e.kafka_log import Published, Tables, waits_for_a_clock
from tidings.events.v1.event_pb2 import Event
from tidings.internal.v1.dead_letter_pb2 import DeadLetter
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

#: Differences shown of each kind; all are counted.
SHOWN = 5


@dataclass
class Oracle:
    """The plain fold of the events topic: tables, outcomes, and the violations by place."""

    tables: PlainTables
    applied: int = 0
    duplicates: int = 0
    denied: int = 0
    violations: dict[tuple[int, int], Violation] = field(default_factory=dict)
    #: By user, how often they came to which product.
    touched: dict[str, Counter[str]] = field(default_factory=dict)


def oracle_of(events: Iterable[Any], partitions: int) -> Oracle:
    """Fold the records of the events topic as Kafka holds them."""
    oracle = Oracle(PlainTables())
    for record in events:
        event = decode_event(record.value or b"", record.key or b"", record.timestamp)
        if isinstance(event, Event) and partition_of(record.key, partitions) != record.partition:
            event = ASTRAY
        if isinstance(event, Violation):
            oracle.violations[record.partition, record.offset] = event
            continue
        match oracle.tables.fold(event, record.partition, record.offset):
            case Applied(interactions):
                oracle.applied += 1
                for interaction in interactions:
                    oracle.touched.setdefault(interaction.user_id, Counter())[interaction.product_id] += 1
            case Duplicate():
                oracle.duplicates += 1
            case Denied():
                oracle.denied += 1
    return oracle


@dataclass
class Verdict:
    """What was compared; every count is of things found equal."""

    events: int
    applied: int
    duplicates: int
    dead_letters: int
    profiles: int
    items: int
    items_with_exact_neighbours: int
    shares: int
    updates: int = 0
    #: Lists that were ranked once more at the end, and came out the same.
    lists_ranked_again: int = 0
    users_at_inbox: int = 0
    deliveries: int = 0
    repeated_deliveries: int = 0
    #: People who are due and were not waited for: a worker whose clock was wrong signed what was sent, and it was refused time and again.
    waiting_for_a_clock: int = 0
    exits: int = 0
    kills: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{name} {round(value, 1):,}" for name, value in asdict(self).items())


class Differences:
    """Collects what is not equal, so that a failure shows all kinds at once."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, detail: str) -> None:
        self._found.setdefault(kind, []).append(detail)

    def same_keys(self, what: str, held: Mapping[Any, Any], expected: Mapping[Any, Any]) -> list[Any]:
        """Keys in both; the others are differences."""
        for key in expected.keys() - held.keys():
            self.add(f"{what} missing", str(key))
        for key in held.keys() - expected.keys():
            self.add(f"{what} that should not be", str(key))
        return sorted(expected.keys() & held.keys())

    def check(self) -> None:
        """Raise AssertionError with every kind, its count and the first few."""
        if self._found:
            lines = [f"{kind}: {len(found)}, e.g. {'; '.join(found[:SHOWN])}" for kind, found in self._found.items()]
            raise AssertionError("not equal to the plain fold of the log:\n  " + "\n  ".join(lines))


def compare_tables(held: Tables, events: list[Any], dead_letters: list[Any], partitions: int) -> Verdict:
    """Profiles byte for byte; items' visits; neighbour weights where nothing was cut; shares; who was answered by which items; who has a
    list; dead letters.

    Raises AssertionError that names what differs.
    """
    oracle, differences = oracle_of(events, partitions), Differences()
    expected = oracle.tables
    for place in held.astray:
        differences.add("keys in another partition than their own", place)
    for user in differences.same_keys("profiles", held.profiles, expected.profiles):
        if held.profiles[user].SerializeToString() != expected.profiles[user].SerializeToString():
            got, want = held.profiles[user].event_count, expected.profiles[user].event_count
            differences.add("profiles that differ", f"{user} ({got} events applied, {want} expected)")
    exact = 0
    for product in differences.same_keys("items", held.items, expected.items):
        got, want = held.items[product], expected.items[product]
        if _visits(got) != _visits(want):
            differences.add("items that differ", f"{product} ({got.visit_count} visits, {want.visit_count} expected)")
        if got.evicted_count == want.evicted_count == 0:
            exact += 1
            if got.neighbours != want.neighbours:
                differences.add("items whose neighbours differ", product)
        if got.bought_evicted_count == want.bought_evicted_count == 0 and got.bought != want.bought:
            differences.add("items that differ in what was bought with them", product)
    for partition in differences.same_keys("shares", held.shares, expected.shares):
        if held.shares[partition] != expected.shares[partition]:
            got, want = held.shares[partition].event_count, expected.shares[partition].event_count
            differences.add("shares that differ", f"partition {partition} ({got} events, {want} expected)")
    _compare_answers(held, oracle, differences)
    _compare_lists(held, expected, differences)
    _compare_counts(held, oracle, differences)
    _compare_letters(dead_letters, events, oracle, differences)
    differences.check()
    return Verdict(
        events=len(events), applied=oracle.applied, duplicates=oracle.duplicates, dead_letters=len(oracle.violations),
        profiles=len(expected.profiles), items=len(expected.items), items_with_exact_neighbours=exact, shares=len(expected.shares),
    )


def _visits(item: ItemState) -> tuple[int, ...]:
    return item.visit_count, item.last_visit_at_ms, item.weight, item.window, item.purchase_count


def _compare_answers(held: Tables, oracle: Oracle, differences: Differences) -> None:
    """Every visit was answered: what an item's list held then depends on who came in between, but not whether it came, nor how many visits
    it counts at least.
    """
    for user in differences.same_keys("answers of items to", held.neighbours, oracle.touched):
        visits = oracle.touched[user]
        answers = {answer.product_id: answer.visit_count for answer in held.neighbours[user].lists}
        if len(answers) != min(MAX_NEIGHBOUR_LISTS, len(visits)) or not answers.keys() <= visits.keys():
            differences.add("people whom items have not answered", f"{user} ({len(answers)} of {len(visits)} items)")
        elif late := [product for product, count in answers.items() if count < visits[product]]:
            differences.add("answers from before a person's last visit", f"{user}: {late}")


def _compare_lists(held: Tables, expected: PlainTables, differences: Differences) -> None:
    """Whoever has a profile was ranked."""
    for user in differences.same_keys("lists", held.outbox, expected.profiles):
        entry = held.outbox[user]
        if entry.user_id != user or entry.update.user_id != user or entry.list_digest != list_digest(entry.update.recommendations):
            differences.add("outbox entries at odds with themselves", user)


def compare_published(held: Tables, published: Published, *, with_shares: bool = True) -> None:
    """The updates topic's newest version of everyone is the outbox's, and a version is one list; shares stand on theirs as in the table.

    Raises AssertionError that names what differs.
    """
    differences = Differences()
    for user in published.two_lists:
        differences.add("versions with two lists on the updates topic", user)
    for user in differences.same_keys("updates", published.newest, held.outbox):
        entry = held.outbox[user]
        if published.newest[user] != (entry.update.version, entry.list_digest):
            differences.add("updates that differ", f"{user} (version {published.newest[user][0]}, {entry.update.version} in the outbox)")
    for partition in differences.same_keys("published shares", published.shares, held.shares) if with_shares else ():
        if published.shares[partition] != held.shares[partition].event_count:
            got, want = published.shares[partition], held.shares[partition].event_count
            differences.add("published shares that differ", f"partition {partition} ({got} events, {want} in its table)")
    differences.check()


def compare_rankings(held: Tables, rank: Callable[[Profile, HeldNeighbours], Sequence[Recommendation]]) -> int:
    """Nobody is left with an old list: each is what its person's profile and answers come to, ranked once more. To be asked only where the
    global models are as they were when the lists were made. Returns how many lists that were.

    Raises AssertionError that names what differs.
    """
    differences = Differences()
    for user, entry in held.outbox.items():
        answers = decode_held_neighbours(held.neighbours[user].SerializeToString()) if user in held.neighbours else HeldNeighbours()
        if entry.list_digest != list_digest(rank(held.profiles[user], answers)):
            differences.add("old lists", f"{user} (version {entry.update.version})")
    differences.check()
    return len(held.outbox)


def _compare_counts(held: Tables, oracle: Oracle, differences: Differences) -> None:
    applied = sum(profile.event_count for profile in held.profiles.values())
    if applied != oracle.applied:
        differences.add("events applied", f"{applied}, {oracle.applied} expected")


def _compare_letters(dead_letters: list[Any], events: list[Any], oracle: Oracle, differences: Differences) -> None:
    """One letter for each violation, with its reason, field, place and bytes. A repeat of a letter is harmless and is not counted."""
    letters: dict[tuple[int, int], DeadLetter] = {}
    for record in dead_letters:
        letter = DeadLetter.FromString(record.value)
        if record.key != f"{letter.topic}/{letter.partition}/{letter.offset}".encode():
            differences.add("dead letters with a wrong key", repr(record.key))
        letters[letter.partition, letter.offset] = letter
    violations = oracle.violations
    records = {(record.partition, record.offset): record for record in events if (record.partition, record.offset) in violations}
    for place in differences.same_keys("dead letters", letters, violations):
        letter, violation, record = letters[place], violations[place], records[place]
        said = (letter.reason, letter.field, letter.detail, letter.topic, letter.timestamp_ms, letter.key, letter.value)
        place_and_bytes = (record.topic, record.timestamp, record.key or b"", record.value or b"")
        wanted = (violation.reason, violation.field, violation.detail, *place_and_bytes)
        if said != wanted:
            differences.add("dead letters that differ", f"{place}: {str(said)[:200]}, expected {str(wanted)[:200]}")


def compare_inbox(
    target: str, outbox: Mapping[str, OutboxEntry], bodies: Mapping[str, dict[str, Any]], stats: Mapping[str, int], *,
    clocks_were_right: bool = True,
) -> int:
    """Everyone with a list was told, and was told last what the outbox holds; versions never went back, a version told twice kept its id
    and its list, every signature held. A signature holds for some minutes by the receiver's clock: what a worker with a wrong clock sent
    was refused, and people who met that often are still due by the retry schedule. Returns how many these are: no more is asked of them.

    The version told may be below the confirmed one, where a later version said the same and was not sent; and the update's may be above
    that, where a new owner published the same list once more.
    Raises AssertionError that names what differs.
    """
    differences, waiting = Differences(), set[str]()
    if not clocks_were_right:
        waiting = {user for user, entry in outbox.items() if (held := delivery_of(entry, target)) and waits_for_a_clock(held)}
    for user in differences.same_keys("users at the inbox", _without(bodies, waiting), _without(outbox, waiting)):
        update, data, delivery = outbox[user].update, bodies[user]["data"], delivery_of(outbox[user], target)
        if delivery is None or is_due(delivery):
            differences.add("users whose last list is not confirmed", user)
        elif is_given_up(delivery):
            differences.add("users who were given up", f"{user} (version {delivery.abandoned_version}: {delivery.last_error})")
        elif data["version"] > delivery.confirmed_version:
            differences.add("versions at the inbox above the confirmed one", f"{user} ({data['version']}, {delivery.confirmed_version})")
        elif _products_told(data) != _products(update):
            differences.add("lists at the inbox that differ", f"{user} (version {data['version']})")
    for wrong in ("regressions", "renamed", "altered", "bad_signatures", "malformed"):
        if stats[wrong] and (wrong != "bad_signatures" or clocks_were_right):
            differences.add(f"{wrong} at the inbox", str(stats[wrong]))
    differences.check()
    return len(waiting)


def _without(held: Mapping[str, Any], users: Collection[str]) -> dict[str, Any]:
    return {user: value for user, value in held.items() if user not in users}


def _products(update: RecommendationUpdate) -> list[tuple[str, str, str, int]]:
    return [(r.product_id, _kind(r.reason.kind), r.reason.because_of, r.reason.times_seen) for r in update.recommendations]


def _products_told(data: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    return [
        (r["product_id"], r["reason"]["kind"], r["reason"]["because_of"] or "", r["reason"]["times_seen"]) for r in data["recommendations"]
    ]


def _kind(number: int) -> str:
    return ReasonKind.Name(number).removeprefix("REASON_KIND_").lower()
