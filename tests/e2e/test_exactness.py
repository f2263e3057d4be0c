"""The comparison that every end-to-end run ends in finds whatever is lost, doubled or old, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.recommendations import Reason, Recommendation, encode_update, list_digest
from app.streams.publisher import partition_of
from tests.e2e.exactness import compare_inbox, compare_published, compare_rankings, compare_tables, oracle_of
from tests.e2e.kafka_log import Published, Tables
from tidings.events.v1.event_pb2 import Event, ProductViewed
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import REASON_KIND_TRENDING

PARTITIONS = 4
USERS, PRODUCTS, VERSION = 6, 5, 3
SOUND_STATS = {"regressions": 0, "renamed": 0, "altered": 0, "bad_signatures": 0, "malformed": 0}


def _ranked(profile: Profile, _: object = None) -> list[Recommendation]:
    """A list that follows from how many events the profile has."""
    reason = Reason(REASON_KIND_TRENDING)
    return [Recommendation(f"p{profile.event_count % 7}", 1.0, reason), Recommendation("p9", 0.5, reason)]


def _events() -> list[Any]:
    records, ends = [], [0] * PARTITIONS
    for number in range(40):
        user = f"u{number % USERS}"
        event = Event(
            event_id=f"e{number}", user_id=user, occurred_at_ms=1_700_000_000_000 + number * 1000,
            product_viewed=ProductViewed(product_id=f"p{number % PRODUCTS}"),
        )
        partition = partition_of(user.encode(), PARTITIONS)
        records.append(
            SimpleNamespace(
                topic="events", partition=partition, offset=ends[partition], key=user.encode(), value=event.SerializeToString(),
                timestamp=1_700_000_100_000 + number,
            )
        )
        ends[partition] += 1
    return records


@dataclass
class End:
    """What a run came to."""

    tables: Tables
    published: Published
    bodies: dict[str, dict[str, Any]]
    stats: dict[str, int]

    def compare(self) -> None:
        """As Fleet.exact does."""
        compare_tables(self.tables, _events(), [], PARTITIONS)
        compare_published(self.tables, self.published)
        compare_rankings(self.tables, _ranked)
        compare_inbox("inbox", self.tables.outbox, self.bodies, self.stats)


def _entry(profile: Profile) -> OutboxEntry:
    entry = OutboxEntry(user_id=profile.user_id)
    entry.update.ParseFromString(encode_update(profile, _ranked(profile), version=VERSION, ranked_at_ms=1, caused_at_ms=1))
    entry.list_digest = list_digest(entry.update.recommendations)
    entry.deliveries.append(Delivery(target="inbox", desired_version=VERSION, confirmed_version=VERSION))
    return entry


def _body(entry: OutboxEntry) -> dict[str, Any]:
    reason = {"kind": "trending", "because_of": None, "times_seen": 0}
    listed = [{"product_id": one.product_id, "reason": reason} for one in entry.update.recommendations]
    return {"data": {"user_id": entry.user_id, "version": VERSION, "recommendations": listed}}


@pytest.fixture
def end() -> End:
    """Of a run in which nothing went wrong."""
    oracle = oracle_of(_events(), PARTITIONS)
    plain = deepcopy(oracle.tables)
    answers = {
        user: UserNeighbours(lists=[NeighbourList(product_id=p, visit_count=plain.items[p].visit_count) for p in touched])
        for user, touched in oracle.touched.items()
    }
    outbox = {user: _entry(profile) for user, profile in plain.profiles.items()}
    published = Published()
    for entry in outbox.values():
        published.take_update(entry.update.SerializeToString())
    published.shares = {partition: share.event_count for partition, share in plain.shares.items()}
    tables = Tables(plain.profiles, plain.items, answers, outbox, plain.shares)
    return End(tables, published, {user: _body(entry) for user, entry in outbox.items()}, dict(SOUND_STATS))


def test_a_run_in_which_nothing_went_wrong_is_exact(end: End) -> None:
    end.compare()


def _without(place: str) -> Callable[[End], Any]:
    def lose(end: End) -> None:
        held: dict[Any, Any] = getattr(end.tables, place)
        held.pop(next(iter(held)))

    return lose


def _an_old_list(end: End) -> None:
    """Everything agrees, but it is a list from before the person's last event."""
    profile = Profile.FromString(end.tables.profiles["u1"].SerializeToString())
    profile.event_count -= 1
    entry = end.tables.outbox["u1"] = _entry(profile)
    end.bodies["u1"] = _body(entry)
    end.published = Published(shares=end.published.shares)
    for each in end.tables.outbox.values():
        end.published.take_update(each.update.SerializeToString())


def _one_event_twice(end: End) -> None:
    end.tables.profiles["u1"].event_count += 1


def _one_visit_twice(end: End) -> None:
    end.tables.items["p1"].visit_count += 1


def _another_weight(end: End) -> None:
    neighbours = end.tables.items["p1"].neighbours
    neighbours[next(iter(neighbours))] += 1


def _a_share_twice(end: End) -> None:
    next(iter(end.tables.shares.values())).event_count += 1


def _an_old_share(end: End) -> None:
    end.published.shares[next(iter(end.published.shares))] -= 1


def _an_unanswered_visit(end: End) -> None:
    del end.tables.neighbours["u1"].lists[0]


def _an_old_answer(end: End) -> None:
    end.tables.neighbours["u1"].lists[0].visit_count = 0


def _a_user_twice(end: End) -> None:
    end.tables.astray.append("profiles/1: b'u0'")


def _a_later_update(end: End) -> None:
    later = _entry(end.tables.profiles["u1"]).update
    later.version += 1
    end.published.take_update(later.SerializeToString())


def _a_version_of_two_lists(end: End) -> None:
    other = _entry(end.tables.profiles["u1"]).update
    other.version -= 1
    end.published.take_update(other.SerializeToString())
    del other.recommendations[0]
    end.published.take_update(other.SerializeToString())


def _an_unpublished_list(end: End) -> None:
    del end.published.newest["u1"]


def _an_undelivered_list(end: End) -> None:
    end.tables.outbox["u1"].deliveries[0].confirmed_version -= 1


def _a_user_who_was_given_up(end: End) -> None:
    end.tables.outbox["u1"].deliveries[0].abandoned_version = VERSION


def _nobody_at_the_inbox(end: End) -> None:
    del end.bodies["u1"]


def _another_list_at_the_inbox(end: End) -> None:
    end.bodies["u1"]["data"]["recommendations"].reverse()


def _too_new_at_the_inbox(end: End) -> None:
    end.bodies["u1"]["data"]["version"] += 1


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_without("profiles"), "profiles missing"),
        (_without("items"), "items missing"),
        (_without("shares"), "shares missing"),
        (_without("neighbours"), "answers of items to missing"),
        (_without("outbox"), "lists missing"),
        (_one_event_twice, "profiles that differ"),
        (_one_visit_twice, "items that differ"),
        (_another_weight, "items whose neighbours differ"),
        (_a_share_twice, "shares that differ"),
        (_a_user_twice, "another partition"),
        (_an_unanswered_visit, "people whom items have not answered"),
        (_an_old_answer, "answers from before a person's last visit"),
        (_an_old_share, "published shares that differ"),
        (_a_later_update, "updates that differ"),
        (_a_version_of_two_lists, "versions with two lists"),
        (_an_unpublished_list, "updates missing"),
        (_an_old_list, "old lists"),
        (_an_undelivered_list, "users whose last list is not confirmed"),
        (_a_user_who_was_given_up, "users who were given up"),
        (_nobody_at_the_inbox, "users at the inbox missing"),
        (_another_list_at_the_inbox, "lists at the inbox that differ"),
        (_too_new_at_the_inbox, "versions at the inbox above"),
    ],
)
def test_what_is_lost_doubled_or_old_is_found(end: End, break_it: Callable[[End], None], said: str) -> None:
    break_it(end)
    with pytest.raises(AssertionError, match=said):
        end.compare()


def test_a_version_that_was_given_up_before_a_later_one_was_confirmed_is_history(end: End) -> None:
    end.tables.outbox["u1"].deliveries[0].abandoned_version = VERSION - 1
    end.compare()


def _refused(end: End, attempts: int, reason: str) -> None:
    delivery = end.tables.outbox["u1"].deliveries[0]
    delivery.confirmed_version, delivery.attempts, delivery.last_error = 0, attempts, reason
    del end.bodies["u1"]


@pytest.mark.parametrize(
    ("attempts", "reason", "clocks_were_right", "said"),
    [
        (3, "401: Message timestamp too new", False, ""),
        (2, "401: Message timestamp too new", False, "users at the inbox missing"),
        (3, "401: No matching signature found", False, "users at the inbox missing"),
        (3, "401: Message timestamp too new", True, "users at the inbox missing"),
    ],
)
def test_only_those_whom_wrong_clocks_make_wait_for_long_may_be_due(
    end: End, attempts: int, reason: str, clocks_were_right: bool, said: str
) -> None:
    _refused(end, attempts, reason)
    compare = partial(compare_inbox, "inbox", end.tables.outbox, end.bodies, end.stats, clocks_were_right=clocks_were_right)
    if said:
        with pytest.raises(AssertionError, match=said):
            compare()
    else:
        assert compare() == 1
        end.bodies["u2"]["data"]["version"] += 1
        with pytest.raises(AssertionError, match="versions at the inbox above"):
            compare()


@pytest.mark.parametrize("wrong", SOUND_STATS)
def test_what_the_inbox_complains_of_is_found(end: End, wrong: str) -> None:
    end.stats[wrong] = 1
    with pytest.raises(AssertionError, match=wrong):
        end.compare()
