"""The small global models: what one partition learns of returning and of trends, and what all of them say together."""

from __future__ import annotations

from collections import Counter

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from app.domain.models import GlobalModels
from app.domain.profile import Interaction
from app.domain.reminders import (
    HISTORY_CELLS,
    MAX_RANK,
    RANK_OF_CELL,
    SESSION_CELLS,
    START_CELLS,
    START_DEPTH,
    Reminders,
    history_cells,
    learn_return,
    session_cells,
    start_cells,
)
from app.domain.share import Share, decode_share, encode_share, fold_share, new_share
from app.domain.trending import (
    BLOCK_EVENTS,
    KEPT_CLOSED_PRODUCTS,
    MAX_BLOCKS,
    MAX_OPEN_PRODUCTS,
    MAX_TRENDING,
    Trending,
    TrendingBlock,
    count_touch,
    trending_shares,
)
from tests.unit.domain.event_worlds import NOON_MS
from tidings.state.v1 import share_pb2
from tidings.state.v1.profile_pb2 import InteractionKind

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
        for product_id, cell in session_cells(session).items():
            key = plain_cell_key(session, product_id)
            assert met.setdefault(cell, key) == key
            assert RANK_OF_CELL[cell] == key[0]
            assert 0 <= cell < SESSION_CELLS

    check()
    assert len(set(met.values())) == len(met) > 50


@given(SESSIONS, SESSIONS)
def test_cells_of_earlier_sessions_lie_in_their_range_and_leave_the_session_out(earlier, session):
    cells = history_cells(earlier, session)
    assert not cells.keys() & set(session)
    assert all(0 <= cell < HISTORY_CELLS for cell in cells.values())
    ranks = list(dict.fromkeys(product for product in reversed(earlier[-16:]) if product not in session))
    assert list(cells) == ranks


def test_a_return_is_learned_where_it_happened():
    models = GlobalModels.of([share_of([touched("a", ["a", "b"], [])] * 1000)])
    cells = session_cells(["x", "y"])
    assert models.session_return[cells["x"]] > 0.95
    assert models.session_return[cells["y"]] < 0.01


def test_a_return_to_an_earlier_session_is_learned_too():
    models = GlobalModels.of([share_of([touched("a", [], ["a", "b", "c"])] * 100)])
    cells = history_cells(["x", "y", "z"], [])
    # 100 returns in 100 events, and 20 more events without one that every cell begins with; y and x share the cell of ranks 2 and 3.
    assert models.history_return[cells["x"]] == pytest.approx(100 / 220, rel=1e-3)
    assert models.history_return[cells["z"]] == 0.0


@given(st.lists(PRODUCTS, max_size=200))
def test_cells_at_a_start_tell_how_long_ago_and_how_often(earlier):
    within = earlier[-START_DEPTH:]
    ranks = list(dict.fromkeys(reversed(within)))
    cells = start_cells(earlier)
    assert list(cells) == ranks
    keys = {product: ((ranks.index(product) + 1).bit_length(), min(within.count(product), 4)) for product in ranks}
    assert all(0 <= cell < START_CELLS for cell in cells.values())
    assert all((cells[a] == cells[b]) == (keys[a] == keys[b]) for a in ranks for b in ranks)


def test_how_sessions_start_is_learned_from_their_first_products_alone_and_far_back():
    long_ago = ["a", *(f"p{number}" for number in range(100))]
    share = share_of([touched("a", [], long_ago)] * 100 + [touched("b", ["a"], long_ago[-16:])] * 100)
    models = GlobalModels.of([share])
    # 38 products, of ranks 64 to 101, stood in a's cell each time.
    assert models.start_return[start_cells(long_ago)["a"]] == pytest.approx(100 / (3800 + 20), rel=1e-3)
    assert models.start_return[start_cells(["x"])["x"]] == 0.0


def test_old_counts_fade_by_half_in_50000_events():
    reminders = Reminders()
    learn_return(reminders, ["a", "a"], [], "a")
    cell = session_cells(["a", "a"])["a"]
    first = reminders.session_available[cell] / reminders.scale
    reminders.scale *= 2.0 ** (50_000 / 50_000)
    assert reminders.session_available[cell] / reminders.scale == pytest.approx(first / 2)


@given(SESSIONS, SESSIONS, PRODUCTS)
def test_the_scale_is_brought_back_without_changing_what_is_known(session, earlier, product_id):
    reminders = Reminders()
    learn_return(reminders, session, earlier, product_id)
    before = [count / reminders.scale for counts in reminders.all_counts() for count in counts]
    reminders.scale *= 2.0**20
    for counts in reminders.all_counts():
        for place, count in enumerate(counts):
            counts[place] = count * 2.0**20
    learn_return(reminders, [], [], product_id)
    assert reminders.scale == 1.0
    assert [count for counts in reminders.all_counts() for count in counts] == pytest.approx(before, rel=1e-4)


@given(st.lists(st.tuples(PRODUCTS, SESSIONS, SESSIONS), max_size=20))
def test_every_cell_that_a_product_stands_in_was_available_and_the_one_returned_to_was_hit(rows):
    plain: dict[str, Counter[int]] = {name: Counter() for name in ("session", "session_hit", "history", "history_hit")}
    for product_id, session, earlier in rows:
        plain["session"].update(session_cells(session).values())
        plain["history"].update(history_cells(earlier, session).values())
        plain["session_hit"].update(cell for other, cell in session_cells(session).items() if other == product_id)
        plain["history_hit"].update(cell for other, cell in history_cells(earlier, session).items() if other == product_id)
    models = GlobalModels.of([share_of([touched(*row) for row in rows])])
    by_rank = [
        sum(plain["session_hit"][c] for c in of) / (1 + sum(plain["session"][c] for c in of))
        for of in ([c for c, r in enumerate(RANK_OF_CELL) if r == rank] for rank in range(MAX_RANK + 1))
    ]
    assert models.session_return == pytest.approx(
        [(plain["session_hit"][c] + 50 * by_rank[rank]) / (plain["session"][c] + 50) for c, rank in enumerate(RANK_OF_CELL)], rel=1e-2
    )
    assert models.history_return == pytest.approx(
        [plain["history_hit"][c] / (plain["history"][c] + 20) for c in range(HISTORY_CELLS)], rel=1e-2
    )


@given(st.lists(st.tuples(PRODUCTS, SESSIONS, SESSIONS), max_size=8))
def test_models_do_not_depend_on_the_order_of_the_shares(rows):
    shares = [share_of([touched(*row)], partition) for partition, row in enumerate(rows)]
    models = GlobalModels.of(shares)
    assert models == GlobalModels.of(reversed(shares))
    assert all(0 <= p <= 1 for p in (*models.session_return, *models.history_return, *models.start_return))


def test_shares_at_different_scales_count_alike():
    share, scaled = (share_of([touched("a", ["a"], []), touched("a", ["a", "a"], [])]) for _ in range(2))
    for counts in scaled.reminders.all_counts():
        for place, count in enumerate(counts):
            counts[place] = count * 1024
    scaled.reminders.scale *= 1024
    assert GlobalModels.of([scaled]).session_return == pytest.approx(GlobalModels.of([share]).session_return)


def test_of_no_shares_nothing_is_likely_and_nothing_trends():
    models = GlobalModels.of([])
    assert set(models.session_return) == set(models.history_return) == set(models.start_return) == {0.0}
    assert models.trending == ()


# Stored


@given(st.lists(st.tuples(PRODUCTS, SESSIONS, SESSIONS), max_size=30), st.integers(0, 30))
def test_a_share_that_was_stored_and_read_goes_on_alike(rows, after):
    interactions = [touched(*row) for row in rows]
    stored = decode_share(encode_share(share_of(interactions[:after], 3)))
    for interaction in interactions[after:]:
        fold_share(stored, interaction)
    assert stored == share_of(interactions, 3)
    assert encode_share(stored) == encode_share(share_of(interactions, 3))


def test_a_share_of_many_blocks_that_was_stored_and_read_goes_on_alike():
    straight, stored = new_share(3), new_share(3)
    for number in range(BLOCK_EVENTS * (MAX_BLOCKS + 2)):
        for share in (straight, stored):
            fold_share(share, touched(f"p{number * number % 1009}", [], []))
        if number % 999 == 0:
            stored = decode_share(encode_share(stored))
    assert stored == straight
    assert encode_share(stored) == encode_share(straight)


def test_what_is_stored_is_the_message_with_every_count():
    share = share_of([touched("a", ["x", "y"], ["a"]), touched("b", ["a", "b", "a"], ["c", "c"]), touched("z", [], ["z"])], 3)
    share.trending.blocks.insert(0, TrendingBlock(7, ["b", "c"], [3, 4]))
    message = share_pb2.Share.FromString(encode_share(share))
    assert (message.partition, message.event_count, message.reminders.scale) == (3, 3, share.reminders.scale)
    for name in (field.name for field in share_pb2.Reminders.DESCRIPTOR.fields if field.name != "scale"):
        counts = list(getattr(share.reminders, name))
        assert any(counts)
        assert list(getattr(message.reminders, name)) == counts
    blocks = [(block.event_count, list(block.product_ids), list(block.counts)) for block in message.trending.blocks]
    assert blocks == [(7, ["b", "c"], [3, 4]), (3, ["a", "b", "z"], [1, 1, 1])]


def test_fields_of_a_newer_worker_stay_in_a_share():
    unknown = b"\xfa\x01\x03new"  # field 31
    share = decode_share(encode_share(share_of([touched("a", ["a"], [])])) + unknown)
    fold_share(share, touched("b", ["a"], []))
    assert encode_share(share).endswith(unknown)
    assert decode_share(encode_share(share)) == share


def test_a_share_from_before_there_were_counts_by_number_is_read():
    message = share_pb2.Share.FromString(encode_share(share_of([touched("a", ["a", "a"], [])])))
    message.reminders.ClearField("session_once")
    message.reminders.ClearField("history_once")
    message.reminders.ClearField("start_available")
    message.reminders.ClearField("start_hit")
    assert decode_share(message.SerializeToString()) == share_of([touched("a", ["a", "a"], [])])
    assert decode_share(b"") == new_share(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.reminders.session_hit.append(1.0),
        lambda message: message.reminders.session_once.append(1.0),
        lambda message: message.reminders.ClearField("history_available"),
        lambda message: message.reminders.ClearField("scale"),
        lambda message: message.trending.blocks[0].counts.append(1),
    ],
)
def test_lists_that_do_not_fit_are_no_share(change):
    message = share_pb2.Share.FromString(encode_share(share_of([touched("a", ["a"], [])])))
    change(message)
    with pytest.raises(DecodeError):
        decode_share(message.SerializeToString())


@given(st.binary(max_size=200))
def test_noise_is_no_share_or_one_that_models_take(noise):
    try:
        share = decode_share(noise)
    except DecodeError:
        return
    assert GlobalModels.of([share]) == GlobalModels.of([decode_share(encode_share(share))])


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
    assert len(encode_share(Share(0, trending=trending))) < 20_000


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
