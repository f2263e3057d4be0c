"""The compiled share adds what Python adds, to the last bit, and leaves to Python whatever is unusual."""

from __future__ import annotations

import gc
import sys
from array import array
from random import Random

import pytest

from app.domain.compiled import SHARE_EXTENSION
from app.domain.reminders import Reminders, learn_return
from app.domain.trending import MAX_OPEN_PRODUCTS, Trending, TrendingBlock, count_touch

pytestmark = pytest.mark.skipif(SHARE_EXTENSION is None, reason="not compiled: no C compiler at installation, or not installed since")


class Asked:
    """The extension, and how often it left something to Python."""

    def __init__(self) -> None:
        self.left = 0

    def learn_return(self, *arguments):
        return self._told(SHARE_EXTENSION.learn_return(*arguments))

    def count_touch(self, *arguments):
        return self._told(SHARE_EXTENSION.count_touch(*arguments))

    def _told(self, answer):
        self.left += answer is None
        return answer


@pytest.mark.parametrize("seed", range(6))
def test_of_returns_it_learns_what_python_learns_to_the_last_bit(seed):
    random = Random(seed)
    asked, one, other = Asked(), Reminders(), Reminders()
    names = [*(f"p{number}" for number in range([3, 8, 20, 60, 300, 300][seed])), *(["é", "Ā", "🎁", "x" * 128, ""] if seed % 2 else [])]
    for _ in range(1_500):
        session = random.choices(names, k=random.choice([0, 0, 1, 2, 5, 13, random.randint(0, 30)]))
        earlier = random.choices(names, k=random.choice([0, 1, 5, 16, random.randint(0, 140)]))
        product_id = random.choice(names)
        learn_return(one, session, earlier, product_id, asked)
        learn_return(other, session, earlier, product_id, None)
    assert repr(one) == repr(other)
    assert asked.left == 0


def test_the_scale_is_brought_back_by_python():
    asked, reminders = Asked(), Reminders(scale=2.0**20)
    learn_return(reminders, ["a"], ["b"], "a", asked)
    assert (asked.left, reminders.scale) == (1, 1.0)
    learn_return(reminders, ["a"], ["b"], "a", asked)
    assert asked.left == 1


@pytest.mark.parametrize("catalog", [5, 400, 5_000])
def test_of_touches_it_counts_what_python_counts(catalog):
    random = Random(catalog)
    asked, one, other = Asked(), Trending(), Trending()
    for _ in range(25_000):
        product_id = f"p{min(random.randrange(catalog), random.randrange(catalog))}é"
        count_touch(one, product_id, asked)
        count_touch(other, product_id, None)
    assert one == other
    assert asked.left < 200, "where a block begins, or is cut"


@pytest.mark.parametrize(
    "arguments",
    [
        (), (None, ["a"], ["b"], "a"), (Reminders(), ("a",), ["b"], "a"), (Reminders(), ["a"], None, "a"),
        (Reminders(), ["a"], ["b"], b"a"),
        (Reminders(), ["a", 5], ["b"], "a"), (Reminders(), ["a"], [None, "b"], "a"), (Reminders(), ["a"] * 65, ["b"], "a"),
        (Reminders(scale=1), ["a"], ["b"], "a"), (Reminders(session_hit=array("f")), ["a"], ["b"], "a"),
        (Reminders(history_hit=array("d", bytes(15 * 8))), ["a"], ["b"], "a"), (Reminders(session_once=[]), ["a"], ["b"], "a"),
        (Reminders(history_once=[0] * 17), ["a"], ["b"], "a"), (Reminders(start_hit=bytes(28 * 4)), [], ["b"], "a"),
        (Reminders(scale=float("nan")), ["a"], ["b"], "a"),
    ],
    ids=range(15),
)  # fmt: skip
def test_what_is_unusual_of_returns_is_left_and_nothing_has_changed(arguments):
    before = repr(arguments)
    assert SHARE_EXTENSION.learn_return(*arguments) is None
    assert repr(arguments) == before


@pytest.mark.parametrize(
    "arguments",
    [
        (), (None, "a"), (Trending(), "a"), (Trending([TrendingBlock()]), b"a"), (Trending([TrendingBlock(5, ["a"], [])]), "a"),
        (Trending([TrendingBlock(2_500, ["a"], [2_500])]), "a"), (Trending([TrendingBlock(-1)]), "a"), (Trending([None]), "a"),
        (Trending([TrendingBlock(1, [5], [1])]), "a"), (Trending([TrendingBlock(1, ["a"], [None])]), "a"),
        (Trending([TrendingBlock(1, ["a"], [1 << 80])]), "a"), (Trending([TrendingBlock(1 << 80)]), "a"),
        (Trending([TrendingBlock(1, [f"b{n:03}" for n in range(MAX_OPEN_PRODUCTS)], [1] * MAX_OPEN_PRODUCTS)]), "a"),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_unusual_of_touches_is_left_and_nothing_has_changed(arguments):
    before = repr(arguments)
    assert SHARE_EXTENSION.count_touch(*arguments) is None
    assert repr(arguments) == before


def test_it_leaves_nothing_behind():
    random, reminders, trending = Random(1), Reminders(), Trending([TrendingBlock()])
    names = [f"p{number}" for number in range(50)]
    rounds = [(random.choices(names, k=9), random.choices(names, k=40), random.choice(names)) for _ in range(30)]

    def blocks(times: int) -> int:
        for _ in range(times):
            for session, earlier, product_id in rounds:
                learn_return(reminders, session, earlier, product_id)
                learn_return(reminders, [], earlier, product_id)
                SHARE_EXTENSION.learn_return(Reminders(session_once=[]), session, earlier, product_id)
                count_touch(trending, product_id)
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks(3)
    assert blocks(30) - before < 30, "a block for every round would be 30"
