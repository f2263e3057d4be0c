"""The oracle: tables as dicts, a function of each partition's order alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.items import encode_item
from app.domain.plain_fold import PlainTables, plain_fold
from app.domain.profile import Duplicate
from tests.unit.domain.event_worlds import histories, viewed
from tidings.events.v1.event_pb2 import Event

USERS = ("ada", "bob", "eve", "joe")


def rows(events: list[Event]) -> list[tuple[int, int, Event]]:
    return [(USERS.index(one.user_id) % 2, offset, one) for offset, one in enumerate(events)]


def test_one_view_fills_each_table():
    tables = plain_fold([(3, 0, viewed("p1")), (3, 1, viewed("p2", "e2"))])
    assert list(tables.profiles["ada"].session.product_ids) == ["p1", "p2"]
    assert {name: (item.visit_count, list(item.weights())) for name, item in tables.items.items()} == {
        "p1": (1, ["p2"]),
        "p2": (1, ["p1"]),
    }
    assert tables.shares[3].event_count == 2


def test_a_retry_changes_no_table():
    tables = PlainTables()
    tables.fold(viewed("p1"))
    before = {name: encode_item(item) for name, item in tables.items.items()}
    assert tables.fold(viewed("p1")) == Duplicate()
    assert {name: encode_item(item) for name, item in tables.items.items()} == before
    assert tables.shares[0].event_count == 1


@given(histories(users=USERS, max_size=60), st.randoms(use_true_random=False))
def test_how_partitions_interleave_changes_neither_profiles_nor_items_nor_shares(events, random):
    straight = plain_fold(rows(events))
    lanes = [[row for row in rows(events) if row[0] == partition] for partition in (0, 1)]
    woven = []
    while any(lanes):
        woven.append(random.choice([lane for lane in lanes if lane]).pop(0))
    other = plain_fold(woven)
    assert straight.profiles == other.profiles
    assert all(item.evicted_count == 0 for item in straight.items.values())
    # Within one decay window sums are exact; these events may span two, and there the last bits may be rounded differently.
    if len({one.occurred_at_ms // (1440 * 86_400_000) for one in events}) == 1:
        assert straight.items == other.items
    assert {name: item.visit_count for name, item in straight.items.items()} == {
        name: item.visit_count for name, item in other.items.items()
    }
    assert straight.shares == other.shares
