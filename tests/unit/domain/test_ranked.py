"""A ranked list has the same digest and the same bytes, compiled or not, and what is not as ranking makes it is left to Python."""

from __future__ import annotations

import gc
import math
import sys
from random import Random
from typing import Any

import pytest

from app.domain.recommendations import COMPILED, Reason, Recommendation, encode_update, list_digest, recommendation_of
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

compiled = pytest.mark.skipif(COMPILED is None, reason="not compiled: no C compiler at installation, or not installed since")
IDS = ("", "a", '"quoted\\', "\0\x1e\x1f", "ü €, 漢字, 🛒", "x" * 130, "y" * 20_000)
SCORES = (0.0, -0.0, 1.0, 1e-9, 5e-324, -1.5, math.inf, 1 / 3)
NUMBERS = (0, 0, 1, 127, 128, 255, 256, 20_000, 2**32 - 1)
PRICES = (None, None, (0, ""), (1299, "EUR"), (10**12, "EUR"), (-1, "X"), (2**63 - 1, "€"))


def a_list(chance: Random) -> list[Recommendation]:
    def reason() -> Reason:
        pick = chance.choice
        if chance.random() < 0.5:
            return Reason(chance.randrange(15), pick(["", "p1"]), pick(NUMBERS))  # type: ignore[arg-type]  # kinds are numbers
        return Reason(
            chance.randrange(160), pick(IDS), pick(NUMBERS), pick(NUMBERS), pick(NUMBERS), pick(IDS), pick(PRICES), pick(PRICES),  # type: ignore[arg-type]
            pick(NUMBERS),
        )  # fmt: skip

    def product() -> str:
        return chance.choice(IDS) if chance.random() < 0.2 else f"p{chance.randrange(50)}"

    return [Recommendation(product(), chance.choice(SCORES), reason()) for _ in range(chance.randrange(22))]


def encoded(recommendations: list[Recommendation], how: Any = COMPILED) -> bytes:
    profile = Profile(user_id="ada", last_event_at_ms=5)
    return encode_update(profile, recommendations, version=2**40, ranked_at_ms=7, caused_at_ms=6, compiled=how)


@compiled
def test_compiled_and_not_digest_and_bytes_are_the_same():
    for seed in range(1_500):
        recommendations = a_list(Random(seed))
        assert list_digest(recommendations) == list_digest(recommendations, None), seed
        assert encoded(recommendations) == encoded(recommendations, None), seed


@pytest.mark.parametrize("how", [pytest.param(COMPILED, marks=compiled, id="compiled"), pytest.param(None, id="in Python")])
def test_an_update_says_what_was_ranked(how):
    for seed in range(100):
        recommendations = a_list(Random(seed))
        update = RecommendationUpdate.FromString(encoded(recommendations, how))
        assert (update.user_id, update.version, update.ranked_at_ms, update.caused_at_ms, update.current_to_ms) == ("ada", 2**40, 7, 6, 5)
        assert [recommendation_of(one) for one in update.recommendations] == recommendations
        assert list_digest(update.recommendations, how) == list_digest(recommendations, how)


_PLAIN = Reason(1, "b")  # type: ignore[arg-type]


@compiled
@pytest.mark.parametrize(
    "recommendations",
    [
        None, (), [None], [("p",)], [("p", 1, _PLAIN)], [(b"p", 1.0, _PLAIN)], [("p", 1.0, (1, "b", 0))], [("p", 1.0, list(_PLAIN))],
        [("p\ud800", 1.0, _PLAIN)], [("p", 1.0, _PLAIN._replace(kind=-1))], [("p", 1.0, _PLAIN._replace(kind=128))],
        [("p", 1.0, _PLAIN._replace(because_of=None))], [("p", 1.0, _PLAIN._replace(times_seen=2**32))],
        [("p", 1.0, _PLAIN._replace(together=2**70))], [("p", 1.0, _PLAIN._replace(visits="1"))],
        [("p", 1.0, _PLAIN._replace(category=b""))],
        [("p", 1.0, _PLAIN._replace(price_before=(1,)))], [("p", 1.0, _PLAIN._replace(price_now=(2**63, "")))],
        [("p", 1.0, _PLAIN._replace(price_now=[1, ""]))], [("p", 1.0, _PLAIN._replace(interval_days=-1))],
        [("p", 1.0, _PLAIN), ("p", "1", _PLAIN)],
    ],
)  # fmt: skip
def test_what_ranking_does_not_make_is_left_to_python(recommendations):
    assert COMPILED is not None
    assert COMPILED.fields(recommendations) is None
    assert COMPILED.seen(recommendations) is None


@compiled
def test_no_object_is_kept():
    lists = [a_list(Random(seed)) for seed in range(30)] + [[("p", 1.0, _PLAIN), ("p", "1", _PLAIN)]]

    def work() -> int:
        for recommendations in lists:
            COMPILED.fields(recommendations)
            COMPILED.seen(recommendations)
        gc.collect()
        return sys.getallocatedblocks()

    work()
    before = work()
    for _ in range(20):
        after = work()
    assert after - before < 20
