"""The small global models: what one partition learns of returning and of trends, and what all of them say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.models import GlobalModels
from app.domain.profile import Interaction
from app.domain.reminders import (
    HISTORY_CELLS,
    MAX_RANK,
    RANK_OF_CELL,
    SESSION_CELLS,
    history_cells,
    learn_return,
    new_reminders,
    session_cells,
)
from app.domain.share import fold_share, new_share
from app.domain.trending import (
    BLOCK_EVENTS,
    KEPT_CLOSED_PRODUCTS,
    MAX_BLOCKS,
    MAX_OPEN_PRODUCTS,
    MAX_TRENDING,
    count_touch,
    trending_shares,
)
from tests.unit.domain.event_worlds import NOON_MS
from tidings.state.v1.profile_pb2 import InteractionKind
from tidings.state.v1.share_pb2 import Share, Trending

PRODUCTS = st.sampled_from("abcdefghijklmnop")
SESSIONS = st.lists(PRODUCTS, max_size=30)


def touched(product_id: str, session: list[str], earlier: list[str]) -> Interaction:
    return Interaction("ada", product_id, InteractionKind.INTERACTION_KIND_VIEW, NOON_MS, session, earlier)


def share_of(interactions: list[Interaction], partition: int = 0) -> Share:
    share = new_share(partition)
    for interaction in interactions:
        fold_share(share, interaction)
    return share


def plain_cell_key(session: list[str], product_id: str) -> tuple[int, int, int, int]:
    """The cell in words: rank, times, lag, bucket of distinct products."""
    newest_first = list(dict.fromkeys(reversed(session)))[:MAX_RANK]
    before = list(dict.fromkeys(reversed(session[:-1])))[:6]
    lag = min(before.index(session[-1]) + 1, 3) if session[-1] in before else 0
    distinct = len(newest_first)
    bucket = distinct if distinct < 4 else 4 if distinct < 8 else 5
    return newest_first.index(product_id) + 1, min(session.count(product_id), 3), lag, bucket


def test_every_cell_of_the_session_is_told_from_every_other():
    met: dict[int, tuple[int, int, int, int]] = {}

    @given(st.lists(PRODUCTS, min_size=1, max_size=30))
    def check(session):
        for product_id, cell in session_cells(session):
            key = plain_cell_key(session, product_id)
            assert met.setdefault(cell, key) == key
            assert RANK_OF_CELL[cell] == key[0]
            assert 0 <= cell < SESSION_CELLS

    check()
    assert len(set(met.values())) == len(met) > 50


@given(SESSIONS, SESSIONS)
def test_cells_of_earlier_sessions_lie_in_their_range_and_leave_the_session_out(earlier, session):
    cells = history_cells(earlier, session)
    assert not {product_id for product_id, _ in cells} & set(session)
    assert all(0 <= cell < HISTORY_CELLS for _, cell in cells)
    ranks = list(dict.fromkeys(product for product in reversed(earlier[-16:]) if product not in session))
    assert [product_id for product_id, _ in cells] == ranks


def test_a_return_is_learned_where_it_happened():
    models = GlobalModels.of([share_of([touched("a", ["a", "b"], [])] * 1000)])
    cells = dict(session_cells(["x", "y"]))
    assert models.session_return[cells["x"]] > 0.95
    assert models.session_return[cells["y"]] < 0.01


def test_a_return_to_an_earlier_session_is_learned_too():
    models = GlobalModels.of([share_of([touched("a", [], ["a", "b", "c"])] * 100)])
    cells = dict(history_cells(["x", "y", "z"], []))
    # 100 returns in 100 events, and 20 more events without one that every cell begins with; y and x share the cell of ranks 2 and 3.
    assert models.history_return[cells["x"]] == pytest.approx(100 / 220, rel=1e-3)
    assert models.history_return[cells["z"]] == 0.0


def test_old_counts_fade_by_half_in_50000_events():
    reminders = new_reminders()
    learn_return(reminders, ["a"], [], "a")
    cell = session_cells(["a"])[0][1]
    first = reminders.session_available[cell] / reminders.scale
    reminders.scale *= 2.0 ** (50_000 / 50_000)
    assert reminders.session_available[cell] / reminders.scale == pytest.approx(first / 2)


def test_the_scale_is_brought_back_without_changing_what_is_known():
    reminders = new_reminders()
    learn_return(reminders, ["a"], ["b"], "a")
    reminders.scale = 2.0**20
    reminders.session_available[:] = [count * 2.0**20 for count in reminders.session_available]
    before = reminders.session_available[session_cells(["a"])[0][1]] / reminders.scale
    learn_return(reminders, [], ["b"], "c")
    assert reminders.scale == 1.0
    assert reminders.session_available[session_cells(["a"])[0][1]] == pytest.approx(before, rel=1e-4)


@given(st.lists(st.tuples(PRODUCTS, SESSIONS, SESSIONS), max_size=8))
def test_models_do_not_depend_on_the_order_of_the_shares(rows):
    shares = [share_of([touched(*row)], partition) for partition, row in enumerate(rows)]
    models = GlobalModels.of(shares)
    assert models == GlobalModels.of(reversed(shares))
    assert all(0 <= p <= 1 for p in (*models.session_return, *models.history_return))


def test_shares_at_different_scales_count_alike():
    share, scaled = share_of([touched("a", ["a"], [])], 0), share_of([touched("a", ["a"], [])], 0)
    for counts in (scaled.reminders.session_available, scaled.reminders.session_hit):
        counts[:] = [count * 1024 for count in counts]
    scaled.reminders.scale *= 1024
    assert GlobalModels.of([scaled]).session_return == pytest.approx(GlobalModels.of([share]).session_return)


def test_of_no_shares_nothing_is_likely_and_nothing_trends():
    models = GlobalModels.of([])
    assert set(models.session_return) == set(models.history_return) == {0.0}
    assert models.trending == ()


def test_a_share_that_was_stored_and_read_goes_on_alike():
    interactions = [touched(str(n % 7), [str(n % 5), str(n % 3)], [str(n % 4)]) for n in range(300)]
    stored = Share.FromString(share_of(interactions[:150]).SerializeToString())
    for interaction in interactions[150:]:
        fold_share(stored, interaction)
    assert stored.SerializeToString() == share_of(interactions).SerializeToString()


# Trends


def test_what_most_people_touch_trends_and_ties_stand_by_id():
    trending = Trending()
    for product_id in ("b", "a", "c", "c"):
        count_touch(trending, product_id)
    assert trending_shares([trending]) == [("c", 0.5), ("a", 0.25), ("b", 0.25)]


def test_blocks_and_their_products_are_bounded_and_the_oldest_block_is_forgotten():
    trending = Trending()
    for number in range(BLOCK_EVENTS * (MAX_BLOCKS + 1) + 1):
        count_touch(trending, "first" if number < BLOCK_EVENTS else f"p{number % 1000}")
    assert len(trending.blocks) == MAX_BLOCKS
    assert all(len(block.product_ids) <= KEPT_CLOSED_PRODUCTS for block in trending.blocks[:-1])
    assert "first" not in {product_id for product_id, _ in trending_shares([trending])}
    for number in range(2 * MAX_OPEN_PRODUCTS):
        count_touch(trending, f"q{number}")
    block = trending.blocks[-1]
    assert len(block.product_ids) == len(block.counts) <= MAX_OPEN_PRODUCTS
    assert list(block.product_ids) == sorted(block.product_ids)
    assert trending.ByteSize() < 20_000


def test_a_cut_keeps_what_was_touched_most():
    trending = Trending()
    for number in range(MAX_OPEN_PRODUCTS):
        count_touch(trending, f"p{number}")
    count_touch(trending, "p500")
    count_touch(trending, "one more")
    assert "p500" in trending.blocks[-1].product_ids
    assert len(trending.blocks[-1].product_ids) == 256


def test_many_shares_give_their_newest_blocks_only():
    trendings = [Trending() for _ in range(8)]
    for trending in trendings:
        for number in range(3 * BLOCK_EVENTS):
            count_touch(trending, "old" if number < BLOCK_EVENTS else "new")
    assert [product_id for product_id, _ in trending_shares(trendings)] == ["new"]


def test_at_most_60_products_trend():
    trending = Trending()
    for number in range(100):
        count_touch(trending, f"p{number}")
    assert len(trending_shares([trending])) == MAX_TRENDING
