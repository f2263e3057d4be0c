"""Reasons: each kind has a name and a sentence, the same whether it was just made or comes from an update."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reasons import REASON_NAMES, money_text, reason_text, with_counts
from app.domain.recommendations import Reason, Recommendation, encode_update, list_digest, reason_of
from tests.unit.domain.shop_worlds import Taught
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1 import update_pb2
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

TITLES = {"p1": "Trail shoe"}


def said(reason: Reason | update_pb2.Reason) -> str:
    return reason_text(reason, lambda product_id: TITLES.get(product_id, product_id))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            Reason(ReasonKind.REASON_KIND_ALSO_VIEWED, "p1", together=41, visits=120),
            "You viewed Trail shoe; 41 of 120 who did also viewed this.",
        ),
        (Reason(ReasonKind.REASON_KIND_ALSO_VIEWED, "p2"), "You viewed p2; others who did also viewed this."),
        (Reason(ReasonKind.REASON_KIND_ALSO_VIEWED), "People like you viewed this."),
        (Reason(ReasonKind.REASON_KIND_SEEN_NOW, times_seen=1), "You looked at this just now."),
        (Reason(ReasonKind.REASON_KIND_SEEN_NOW, times_seen=2), "You looked at this just now, twice in all."),
        (Reason(ReasonKind.REASON_KIND_SEEN_BEFORE, times_seen=1), "You looked at this before."),
        (Reason(ReasonKind.REASON_KIND_SEEN_BEFORE, times_seen=3), "You looked at this 3 times before."),
        (Reason(ReasonKind.REASON_KIND_TRENDING), "Popular right now."),
        (Reason(ReasonKind.REASON_KIND_LEFT_IN_CART), "You left this in your cart."),
        (Reason(ReasonKind.REASON_KIND_ALSO_BOUGHT, "p1", together=8, visits=30), "8 of 30 who bought Trail shoe also bought this."),
        (Reason(ReasonKind.REASON_KIND_ALSO_BOUGHT, "p1"), "Others who bought Trail shoe also bought this."),
        (Reason(ReasonKind.REASON_KIND_SIMILAR, "p1"), "Similar to Trail shoe, which you looked at."),
        (Reason(ReasonKind.REASON_KIND_TRENDING_IN_CATEGORY, category="Shoes > Running"), "Popular right now in Shoes > Running."),
        (Reason(ReasonKind.REASON_KIND_NEW_ARRIVAL), "New in the shop."),
        (
            Reason(ReasonKind.REASON_KIND_PRICE_DROPPED, price_before=(2000, "EUR"), price_now=(1499, "EUR")),
            "The price dropped from 20.00 EUR to 14.99 EUR since you last looked.",
        ),
        (Reason(ReasonKind.REASON_KIND_PRICE_DROPPED), "It costs less than when you last looked."),
        (Reason(ReasonKind.REASON_KIND_BACK_IN_STOCK), "Back in stock since you looked at it."),
        (Reason(ReasonKind.REASON_KIND_BUY_AGAIN, interval_days=28), "You buy this about every 28 days."),
        (Reason(ReasonKind.REASON_KIND_BUY_AGAIN, interval_days=1), "You buy this about every day."),
        (Reason(ReasonKind.REASON_KIND_IN_THE_SHOP), "From the shop."),
        (Reason(99), "Picked for you."),  # type: ignore[arg-type]  # a kind of a newer worker
    ],
)
def test_each_reason_is_a_sentence(reason: Reason, text: str) -> None:
    assert said(reason) == text
    recommendations = [Recommendation("p", 1.0, reason)]
    update = RecommendationUpdate.FromString(encode_update(Profile(), recommendations, version=1, ranked_at_ms=0, caused_at_ms=0))
    message = update.recommendations[0].reason
    assert reason_of(message) == reason
    assert said(message) == text
    assert list_digest(update.recommendations) == list_digest(recommendations)


def test_every_kind_has_a_name_and_a_sentence_of_its_own() -> None:
    kinds = set(ReasonKind.values()) - {ReasonKind.REASON_KIND_UNSPECIFIED}
    assert set(REASON_NAMES) == kinds
    assert REASON_NAMES[ReasonKind.REASON_KIND_ALSO_VIEWED] == "also_viewed"
    sentences = [said(Reason(kind, "p1", category="Shoes")) for kind in kinds]
    assert len(set(sentences)) == len(kinds)
    assert "Picked for you." not in sentences


@pytest.mark.parametrize(
    ("money", "text"),
    [
        ((1299, "EUR"), "12.99 EUR"),
        ((5, "EUR"), "0.05 EUR"),
        ((1299, "JPY"), "1299 JPY"),
        ((1299, "KWD"), "1.299 KWD"),
        ((1299, "CLF"), "0.1299 CLF"),
        ((1200, ""), "12.00"),
        ((10**12, "EUR"), "10000000000.00 EUR"),
    ],
)
def test_money_has_as_many_decimals_as_its_currency(money: tuple[int, str], text: str) -> None:
    assert money_text(*money) == text


def test_counts_are_told_where_they_are_known() -> None:
    source = Taught(together={"p1": (120, {"a": 41, "late": 130})})
    also = Reason(ReasonKind.REASON_KIND_ALSO_VIEWED, "p1")
    listed = [Recommendation("a", 0.9, also), Recommendation("b", 0.8, also), Recommendation("late", 0.7, also)]
    listed.append(Recommendation("t", 0.6, Reason(ReasonKind.REASON_KIND_TRENDING)))
    counted = with_counts(listed, source)
    assert [(r.reason.together, r.reason.visits) for r in counted] == [(41, 120), (0, 0), (130, 130), (0, 0)]
    assert [r._replace(reason=r.reason._replace(together=0, visits=0)) for r in counted] == listed
    assert list_digest(counted) == list_digest(listed), "counts move with every visit, and are no news"


MONEY = st.none() | st.tuples(st.integers(0, 10**12), st.sampled_from(["", "EUR"]))
REASONS = st.builds(
    Reason, st.sampled_from(sorted(REASON_NAMES)), st.sampled_from(["", "p1"]), st.integers(0, 300), st.just(0), st.just(0),
    st.sampled_from(["", "Shoes"]), MONEY, MONEY, st.integers(0, 400),
)  # fmt: skip


@settings(deadline=None)
@given(REASONS, REASONS)
def test_lists_read_the_same_if_and_only_if_their_reasons_are_the_same(one: Reason, other: Reason) -> None:
    def digest(reason: Reason) -> int:
        return list_digest([Recommendation("p", 0.5, reason)])

    assert (digest(one) == digest(other)) == (one == other)
