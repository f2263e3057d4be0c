"""The compiled kernel says what Python says, and leaves to Python whatever is unusual."""

from __future__ import annotations

import gc
import math
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from random import Random

import pytest
from google.protobuf.message import DecodeError

from app.domain.compiled import EXTENSIONS, extensions_info, said_of
from app.domain.compiled import compiled as compiled_extension
from app.domain.kernel import INTERFACE, KERNEL, kernel_info, load
from app.domain.models import GlobalModels
from app.domain.ranking import Situation, rank_situation
from app.domain.ranking_loops import ScoredLinks
from app.domain.recommendations import Reason, Recommendation
from app.domain.reminders import HISTORY_CELLS, SESSION_CELLS
from tests.unit.domain.plain_ranking import plain_rank
from tests.unit.domain.ranking_worlds import Links, any_names, any_situation, message
from tidings.state.v1.neighbours_pb2 import NeighbourList

compiled = pytest.mark.skipif(KERNEL is None, reason="the kernel was not compiled: no C compiler at installation, or not installed since")
NOTHING_KNOWN = GlobalModels((0.1,) * SESSION_CELLS, (0.1,) * HISTORY_CELLS, (("hot", 0.5), ("a", 0.1)))


class Asked:
    """The kernel, and how often it left the answer to Python."""

    INTERFACE = INTERFACE

    def __init__(self) -> None:
        self.times, self.left = 0, 0

    def rank(self, *arguments):
        ranked = KERNEL.rank(*arguments)
        self.times += 1
        self.left += ranked is None
        return ranked


class Answering(Links):
    """Answers the same for every product."""

    def __init__(self, answer: ScoredLinks) -> None:
        super().__init__()
        self._answer = answer

    def links(self, product_id: str) -> ScoredLinks:
        return self._answer


def alike(case) -> Asked:
    asked = Asked()
    ranked = rank_situation(*case, asked)
    assert repr(ranked) == repr(rank_situation(*case, None))  # reads apart what == does not: -0.0, NaN, types
    assert all(type(one) is Recommendation and type(one.reason) is Reason for one in ranked)
    return asked


@compiled
@pytest.mark.parametrize("seed", range(10))
def test_the_kernel_answers_and_says_what_python_says_to_the_last_bit(seed):
    random = Random(seed)
    for _ in range(300):
        names = any_names(random) if random.random() < 0.5 else ()
        assert alike(any_situation(random, names)).left == 0


@compiled
@pytest.mark.parametrize(
    "links",
    [
        {"a": math.nan},
        {"a": math.inf},
        {"a": -1.0},
        {"a": 1},
        {"\ud800": 1.0},
        {"a": 1e308, "b": 1e308},
        {f"n{number}": 1.0 for number in range(10_000)},
        message("p", {"a": math.nan}),
        message("p", {"a": -0.5, "b": 1.0}),
        message("p", {f"n{number}": 1.0 for number in range(10_000)}),
        NeighbourList(neighbour_ids=["a", "b", "a"], scores=[1.0, 2.0, 3.0]).SerializeToString(),
        NeighbourList(scores=[1.0]).SerializeToString() * 2 + NeighbourList(neighbour_ids=["a", "b"]).SerializeToString(),
    ],
    ids=["no number", "infinite", "negative", "whole", "no text", "too great", "too many", *(f"message {n}" for n in range(5))],
)
def test_what_is_unusual_is_left_to_python(links):
    case = Situation(["p"], ["q"]), NOTHING_KNOWN, Answering((1.0, links)), 20
    assert alike(case).left == 1


@compiled
def test_lists_of_two_lengths_are_read_as_far_as_both_go():
    for ids, scores in ((["a", "b", "c"], [1.0, 2.0]), (["a"], [1.0, 2.0]), ([], [1.0]), (["a"], [])):
        links = NeighbourList(neighbour_ids=ids, scores=scores).SerializeToString()
        assert alike((Situation(["p"], []), NOTHING_KNOWN, Answering((1.0, links)), 20)).left == 0


@compiled
@pytest.mark.parametrize("seed", range(5))
def test_of_noise_the_kernel_makes_what_python_makes(seed):
    random = Random(seed)
    whole = message("p", {f"n{number}é": random.random() for number in range(20)})
    for _ in range(2_000):
        if random.random() < 0.3:
            noise = random.randbytes(random.randint(0, 60))
        else:
            noise = bytearray(whole[: random.randint(0, len(whole))] if random.random() < 0.5 else whole)
            for _ in range(random.randint(0, 4) if noise else 0):
                noise[random.randrange(len(noise))] = random.choice([random.randrange(256), 0x00, 0x22, 0x1A, 0x7F, 0x80, 0xFF])
        case = Situation(["p"], []), NOTHING_KNOWN, Answering((1.0, bytes(noise))), 1_000
        try:
            expected = rank_situation(*case, None)
        except DecodeError:
            rank_situation(*case, _Otherwise())  # it reads no more than it needs, and may find nothing to object to; but it must return
        else:
            assert repr(rank_situation(*case)) == repr(expected)


class _Otherwise:
    """The kernel, and an empty list where it leaves the answer to Python."""

    INTERFACE = INTERFACE

    def rank(self, *arguments):
        return KERNEL.rank(*arguments) or []


@compiled
def test_what_goes_wrong_in_a_source_is_told():
    class Broken(Links):
        def links(self, product_id: str) -> ScoredLinks:
            raise LookupError(product_id)

    class NoDamping(dict[str, float]):
        def __missing__(self, product_id: str) -> float:
            raise LookupError(product_id)

    damped = Links(NoDamping())
    damped["p"] = 1.0, {"a": 1.0}
    with pytest.raises(LookupError, match="p"):
        rank_situation(Situation(["p"], []), NOTHING_KNOWN, Broken(), 20)
    with pytest.raises(LookupError, match="a"):
        rank_situation(Situation(["p"], []), NOTHING_KNOWN, damped, 20)


@compiled
@pytest.mark.parametrize("count", [300, 600, 3_000])
def test_of_many_products_it_loses_none(count):
    random = Random(count)
    catalog = [f"p{number}" for number in range(count)]
    links = Links(in_messages=random.random() < 0.5)
    for product_id in catalog[:30]:
        ids = random.sample(catalog, min(count, 250))
        links[product_id] = 1.0, {other: random.choice([0.25, 0.5, 1.0]) for other in ids}
    for situation in (Situation(catalog[:20], catalog[20:200]), Situation([], catalog[:200])):
        case = situation, NOTHING_KNOWN, links, count
        assert alike(case).left == 0
        assert rank_situation(*case) == plain_rank(*case)


@compiled
@pytest.mark.parametrize("count", [58, 59, 60, 61])
def test_it_takes_a_second_hop_where_python_does(count):
    links = Links()
    links["p"] = 1.0, {f"n{number}": 1.0 + number for number in range(count)}
    links["n57"] = 1.0, {"far": 1.0}
    case = Situation(["p"], []), NOTHING_KNOWN, links, 100
    assert alike(case).left == 0
    assert ("far" in {one.product_id for one in rank_situation(*case)}) is (count < 60)


@compiled
@pytest.mark.parametrize("length", [0, 1, 3, 1_000, 1 << 40])
def test_a_list_may_be_of_any_length(length):
    links = Links()
    links["p"] = 1.0, {"a": 1.0, "b": 1.0}
    assert alike((Situation(["p"], ["q", "p"]), NOTHING_KNOWN, links, length)).times == 1


@compiled
def test_arguments_of_other_kinds_are_left_to_python():
    for arguments in ((), (None,) * 12, (1, 2, 3), ([], [], (), (), None, None, {}, {}, {}, 1.0, 20, ())):
        assert KERNEL.rank(*arguments) is None


@compiled
def test_rankings_leave_nothing_behind():
    random = Random(1)
    cases = [any_situation(random, any_names(random)) for _ in range(50)]
    cases.append((Situation(["p"], []), NOTHING_KNOWN, Answering((1.0, b"noise")), 0))
    cases.append((Situation(["p"], []), NOTHING_KNOWN, Answering((1.0, {f"n{number}": 1.0 for number in range(10_000)})), 0))

    def blocks(rounds: int) -> int:
        for _ in range(rounds):
            for case in cases:
                rank_situation(*case, _Otherwise())
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks(3)
    assert blocks(40) - before < 40, "a block for every ranking would be 2,000"


def test_an_extension_of_other_sources_is_not_used():
    assert load("app.domain.nothing_here") is None
    sys.modules["kernel_of_yesterday"] = type(sys)("kernel_of_yesterday")
    try:
        sys.modules["kernel_of_yesterday"].INTERFACE = INTERFACE - 1
        assert load("kernel_of_yesterday") is None
        sys.modules["kernel_of_yesterday"].INTERFACE = INTERFACE
        assert load("kernel_of_yesterday") is not None
    finally:
        del sys.modules["kernel_of_yesterday"]


def test_it_is_said_of_every_extension_whether_it_is_compiled():
    root = Path(__file__).parents[3]
    built = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    assert list(EXTENSIONS) == [extension["name"] for extension in built]
    sources = [source for extension in built for source in extension["sources"]]
    assert f"KERNEL := {' '.join(sources)}\n" in (root / "Makefile").read_text()
    line = extensions_info()
    assert "\n" not in line
    for name, (what, module, _) in EXTENSIONS.items():
        extension = compiled_extension(name, import_module(module).INTERFACE if module != "app.domain.compiled" else 1)
        before, _, after = line.partition("in Python: ")
        assert what in (after if extension is None else before)
    assert said_of(["rankings"], []) == "compiled: rankings"
    assert said_of(["rankings", "items"], ["visits"]).startswith("compiled: rankings, items; in Python: visits (")
    assert said_of([], ["visits"]).startswith("in Python: visits (")


def test_it_is_said_what_is_in_use():
    assert kernel_info().startswith("compiled" if KERNEL is not None else "in Python")
