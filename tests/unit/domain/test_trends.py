"""The wider list of trends: newer touches count more, and it holds the very products that the narrow one does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.models import GlobalModels
from app.domain.trending import (
    BLOCK_EVENTS,
    MAX_TRENDING,
    MAX_TRENDS,
    TRENDS_HALF_LIFE_EVENTS,
    Trending,
    TrendingBlock,
    decayed_trends,
    trending_shares,
)


def block(**counts: int) -> TrendingBlock:
    return TrendingBlock(sum(counts.values()), sorted(counts), [counts[product_id] for product_id in sorted(counts)])


def test_a_touch_counts_half_after_so_many_events() -> None:
    newer = [block(now=BLOCK_EVENTS)] * (TRENDS_HALF_LIFE_EVENTS // BLOCK_EVENTS)
    trends = dict(decayed_trends([Trending([block(old=BLOCK_EVENTS), *newer])]))
    worth = 1.0 + 0.5 ** (BLOCK_EVENTS / TRENDS_HALF_LIFE_EVENTS)
    assert trends == pytest.approx({"old": 0.5 / (worth + 0.5), "now": worth / (worth + 0.5)})


def test_what_is_touched_now_overtakes_what_was_touched_a_little_more_before() -> None:
    trendings = [Trending([block(before=1_300, other=1_200), block(now=1_100, other=1_400), block(rest=1_000)])]
    shares = dict(trending_shares(trendings))
    assert shares["before"] > shares["now"]
    trends = dict(decayed_trends(trendings))
    assert trends["now"] > trends["before"]


def test_ties_stand_by_id_and_shares_of_several_partitions_add_up() -> None:
    assert decayed_trends([Trending([block(b=1, a=1)]), Trending([block(c=1, b=1)])]) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert decayed_trends([]) == decayed_trends([Trending()]) == []


def test_at_most_1000_products_trend() -> None:
    blocks = [block(**{f"p{part}-{n}": 5 for n in range(512)}) for part in range(3)]
    assert len(decayed_trends([Trending([each]) for each in blocks])) == MAX_TRENDS


COUNTS = st.dictionaries(st.integers(0, 150).map("p{}".format), st.integers(1, 60), min_size=1, max_size=90)
BLOCKS = COUNTS.map(lambda counts: block(**counts))


@settings(deadline=None)
@given(st.lists(st.lists(BLOCKS, max_size=4).map(Trending), max_size=4))
def test_of_few_products_the_narrow_list_is_part_of_the_wide_one_and_all_of_it_where_it_is_short(trendings: list[Trending]) -> None:
    narrow = {product_id for product_id, _ in trending_shares(trendings)}
    wide = {product_id for product_id, _ in decayed_trends(trendings)}
    assert narrow <= wide
    if len(narrow) < MAX_TRENDING:
        assert narrow == wide, "or a fallback to trends would lengthen a ranking that has no more to say"


def test_no_shares_have_no_trends() -> None:
    assert GlobalModels.of([]).trends == ()
