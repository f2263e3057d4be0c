"""The ranking: what comes first and why, in a session, at session start and of an unknown person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.held_neighbours import Answer, HeldNeighbours, decode_held_neighbours, encode_held_neighbours
from app.domain.items import neighbour_list
from app.domain.kernel import KERNEL
from app.domain.models import GlobalModels
from app.domain.plain_fold import PlainTables, plain_fold
from app.domain.profile import SESSION_GAP_MS, fold_event, new_profile
from app.domain.ranking import rank as rank_profile
from app.domain.ranking import rank_situation, situation_of
from app.domain.recommendations import Reason, Recommendation, list_digest
from app.domain.reminders import HISTORY_CELLS, SESSION_CELLS, START_CELLS, history_cells, session_cells
from tests.unit.domain.event_worlds import MINUTE_MS, NOON_MS, consent, histories, viewed
from tests.unit.domain.plain_ranking import plain_rank
from tests.unit.domain.ranking_worlds import any_situation
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind

NOTHING_KNOWN = GlobalModels((0.0,) * SESSION_CELLS, (0.0,) * HISTORY_CELLS, ())
LATER_MS = NOON_MS + SESSION_GAP_MS + 10 * MINUTE_MS


@dataclass
class Person:
    """A profile, and what the items answered to its person."""

    profile: Profile = field(default_factory=lambda: new_profile("ada"))
    held: HeldNeighbours = field(default_factory=HeldNeighbours)

    def see(self, product_id: str, event_id: str, at_ms: int) -> None:
        fold_event(self.profile, viewed(product_id, event_id, at_ms))


def person(*product_ids: str) -> Person:
    someone = Person()
    for number, product_id in enumerate(product_ids):
        someone.see(product_id, f"e{number}", NOON_MS + number)
    return someone


def knows(someone: Person, product_id: str, **scores: float) -> Person:
    answer = NeighbourList(product_id=product_id, visit_count=1, neighbour_ids=list(scores), scores=list(scores.values()))
    someone.held.keep(Answer.of(answer.SerializeToString()))
    return someone


def people(tables: PlainTables) -> list[Person]:
    """Everyone, with the present answers of all they touched."""
    everyone = [Person(profile) for profile in tables.profiles.values()]
    for someone in everyone:
        for product_id in someone.profile.history.product_ids:
            item = tables.items[product_id]
            someone.held.keep(Answer.of(neighbour_list(item)))
    return everyone


def rank(someone: Person, models: GlobalModels, now_ms: int, length: int = 20) -> list[Recommendation]:
    return rank_profile(someone.profile, someone.held, models, now_ms, length)


def products(recommendations: list[Recommendation]) -> list[str]:
    return [recommendation.product_id for recommendation in recommendations]


def kinds(recommendations: list[Recommendation]) -> list[str]:
    return [ReasonKind.Name(recommendation.reason.kind).removeprefix("REASON_KIND_") for recommendation in recommendations]


def test_the_neighbours_of_what_was_seen_are_recommended_because_of_it():
    ranked = rank(knows(person("p1"), "p1", a=1.0, b=3.0), NOTHING_KNOWN, NOON_MS)
    assert products(ranked) == ["b", "a", "p1"]
    assert ranked[0].reason == Reason(kind=ReasonKind.REASON_KIND_ALSO_VIEWED, because_of="p1")
    assert [r.score for r in ranked] == pytest.approx([0.75, 0.25, 0.0])


def test_the_newest_product_counts_most_and_is_named_as_the_reason():
    someone = knows(knows(person("old", "new"), "old", a=1.0, b=1.0), "new", a=1.0, c=1.0)
    ranked = rank(someone, NOTHING_KNOWN, NOON_MS, 3)
    assert products(ranked) == ["a", "c", "b"]
    assert [r.reason.because_of for r in ranked] == ["new", "new", "old"]


def test_ties_stand_by_product_id():
    ranked = rank(knows(person("p1"), "p1", d=1.0, b=1.0, c=1.0, a=1.0), NOTHING_KNOWN, NOON_MS, 3)
    assert products(ranked) == ["a", "b", "c"]


def test_products_of_the_session_return_with_their_learned_probability():
    someone = knows(person("p1", "p2", "p1"), "p1", a=1.0)
    cells = session_cells(["p1", "p2", "p1"])
    likely = [0.0] * SESSION_CELLS
    likely[cells["p1"]], likely[cells["p2"]] = 0.1, 0.6
    ranked = rank(someone, replace(NOTHING_KNOWN, session_return=tuple(likely)), NOON_MS)
    assert products(ranked) == ["p2", "a", "p1"]
    assert [r.score for r in ranked] == pytest.approx([0.6, 0.3, 0.1])
    assert ranked[2].reason == Reason(kind=ReasonKind.REASON_KIND_SEEN_NOW, times_seen=2)


def test_new_products_keep_a_part_however_sure_the_returns_are():
    someone = knows(person("p1"), "p1", a=1.0)
    sure = replace(NOTHING_KNOWN, session_return=(1.0,) * SESSION_CELLS)
    assert [r.score for r in rank(someone, sure, NOON_MS)] == pytest.approx([1.0, 0.05])


def test_products_of_earlier_sessions_return_too():
    someone = knows(person("p1", "p1"), "p2", a=1.0)
    someone.see("p2", "later", LATER_MS)
    likely = [0.0] * HISTORY_CELLS
    likely[history_cells(["p1", "p1"], ["p2"])["p1"]] = 0.2
    ranked = rank(someone, replace(NOTHING_KNOWN, history_return=tuple(likely)), LATER_MS)
    assert products(ranked) == ["a", "p1", "p2"]
    assert ranked[1].reason == Reason(kind=ReasonKind.REASON_KIND_SEEN_BEFORE, times_seen=2)


def test_half_an_hour_after_the_last_event_the_history_stands_in_for_the_session():
    someone = knows(person("p1", "p2"), "p2", a=1.0, p1=0.5)
    likely = replace(
        NOTHING_KNOWN, session_return=(0.5,) * SESSION_CELLS, start_return=(0.01,) * START_CELLS, trending=(("hot", 0.4), ("a", 0.2))
    )
    assert situation_of(someone.profile, NOON_MS + SESSION_GAP_MS + 1) == (["p1", "p2"], [])
    assert situation_of(someone.profile, NOON_MS + SESSION_GAP_MS + 2) == ([], ["p1", "p2"])
    ranked = rank(someone, likely, LATER_MS)
    assert [(r.product_id, r.score) for r in ranked] == [
        ("a", pytest.approx(0.3 * (2 / 3 + 0.06))),
        ("p1", pytest.approx(0.3 / 3 + 0.01)),
        ("hot", pytest.approx(0.3 * 0.12)),
        ("p2", 0.01),
    ]
    assert kinds(ranked) == ["ALSO_VIEWED", "ALSO_VIEWED", "TRENDING", "SEEN_BEFORE"]


def test_where_few_are_known_the_neighbours_of_neighbours_come_in_because_of_what_led_there():
    someone = knows(knows(person("p1"), "p1", a=1.0), "a", far=1.0, p1=9.0)
    ranked = rank(someone, NOTHING_KNOWN, NOON_MS)
    assert products(ranked) == ["a", "far", "p1"]
    assert ranked[1].reason == Reason(kind=ReasonKind.REASON_KIND_ALSO_VIEWED, because_of="p1")
    assert [r.score for r in ranked] == pytest.approx([1 / 1.4, 0.4 / 1.4, 0.0])


def test_an_unknown_person_gets_what_trends():
    trends = replace(NOTHING_KNOWN, trending=(("x", 0.5), ("y", 0.25), ("z", 0.1)))
    ranked = rank(Person(), trends, NOON_MS, 2)
    assert (products(ranked), kinds(ranked)) == (["x", "y"], ["TRENDING", "TRENDING"])
    assert rank(Person(), NOTHING_KNOWN, NOON_MS) == []


def test_a_short_list_is_filled_with_what_trends_below_everything_else():
    trends = replace(NOTHING_KNOWN, trending=(("a", 0.5), ("x", 0.25), ("y", 0.1)), session_return=(0.1,) * SESSION_CELLS)
    ranked = rank(knows(person("p1"), "p1", a=1.0), trends, NOON_MS, 4)
    assert products(ranked) == ["a", "p1", "x", "y"]
    assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)


def test_who_denied_profiling_is_like_someone_unknown():
    someone = knows(person("p1"), "p1", a=1.0)
    fold_event(someone.profile, consent("profiling", ConsentState.CONSENT_STATE_DENIED, "no"))
    trends = replace(NOTHING_KNOWN, trending=(("x", 0.5),))
    assert rank(someone, trends, NOON_MS) == rank(Person(), trends, NOON_MS)


@given(histories(users=("ada", "bob", "eve"), max_size=60), st.integers(1, 50), st.integers(0, 90 * MINUTE_MS))
def test_a_list_is_sorted_without_repeats_within_its_length_and_every_product_has_its_reason(events, length, later_ms):
    tables = plain_fold((0, offset, one) for offset, one in enumerate(events))
    models = GlobalModels.of(tables.shares.values())
    for someone in people(tables):
        profile = someone.profile
        ranked = rank(someone, models, events[-1].occurred_at_ms + later_ms, length)
        assert len(ranked) <= length
        assert len(set(products(ranked))) == len(ranked)
        scored = [(-r.score, r.product_id) for r in ranked if r.score > 0]
        assert scored == sorted(scored)
        assert all(r.score == 0 for r in ranked[len(scored) :])
        own = set(profile.history.product_ids)
        for r in ranked:
            match r.reason.kind:
                case ReasonKind.REASON_KIND_ALSO_VIEWED:
                    assert r.reason.because_of in own
                case ReasonKind.REASON_KIND_SEEN_NOW | ReasonKind.REASON_KIND_SEEN_BEFORE:
                    assert r.product_id in own
                    assert r.reason.times_seen == list(profile.history.product_ids).count(r.product_id)
                case other:
                    assert other == ReasonKind.REASON_KIND_TRENDING


@given(histories(users=("ada", "bob"), max_size=40))
def test_someone_who_was_stored_ranks_alike(events):
    tables: PlainTables = plain_fold((0, offset, one) for offset, one in enumerate(events))
    models = GlobalModels.of(tables.shares.values())
    for someone in people(tables):
        stored = Person(
            Profile.FromString(someone.profile.SerializeToString()), decode_held_neighbours(encode_held_neighbours(someone.held))
        )
        assert rank(stored, models, events[-1].occurred_at_ms) == rank(someone, models, events[-1].occurred_at_ms)


# The oracle


@pytest.mark.parametrize("kernel", [KERNEL, None], ids=["as installed", "in Python"])
@pytest.mark.parametrize("seed", range(10))
def test_a_ranking_is_the_plain_one_to_the_last_bit(seed, kernel):
    random = Random(seed)
    for _ in range(300):
        case = any_situation(random)
        assert rank_situation(*case, kernel) == plain_rank(*case)


# Has the list a user would see changed?


def recommended(
    product_id: str, score: float = 1.0, kind: ReasonKind = ReasonKind.REASON_KIND_TRENDING, **reason: object
) -> Recommendation:
    return Recommendation(product_id=product_id, score=score, reason=Reason(kind=kind, **reason))


def test_lists_that_read_the_same_have_one_digest_whatever_their_scores():
    assert list_digest([recommended("a", 0.9), recommended("b", 0.1)]) == list_digest([recommended("a", 0.8), recommended("b", 0.2)])


@pytest.mark.parametrize(
    "other",
    [
        [],
        [recommended("a")],
        [recommended("b"), recommended("a")],
        [recommended("a"), recommended("b", kind=ReasonKind.REASON_KIND_SEEN_NOW)],
        [recommended("a"), recommended("b", because_of="c")],
        [recommended("a"), recommended("b", times_seen=1)],
        [recommended("a"), recommended("c")],
    ],
)
def test_lists_that_read_differently_have_different_digests(other):
    assert list_digest(other) != list_digest([recommended("a"), recommended("b")])


def test_a_digest_is_the_same_in_every_process_and_is_never_that_of_no_list():
    assert list_digest([recommended("a"), recommended("b")]) == 6854352083203113754  # a golden number: it is stored, so it must not change
    assert list_digest([]) != 0
