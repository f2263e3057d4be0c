"""Random situations to be ranked: of few products, so that they repeat, tie, trend and link to each other; or of many."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from random import Random

from app.domain.models import GlobalModels
from app.domain.ranking import Situation
from app.domain.ranking_loops import ScoredLinks
from app.domain.reminders import HISTORY_CELLS, SESSION_CELLS, START_CELLS
from tidings.state.v1.neighbours_pb2 import NeighbourList

#: What ids are made of: one is the beginning of another, and their UTF-8 is of every length.
LETTERS = ("", "a", "ab", "é", "\uffff", "\U00010000", "日本", "0123456", "01234567", "z" * 90)


class Links(dict[str, tuple[float, Mapping[str, float]]]):
    """Neighbours from a dict, popular ones lowered where their popularity is given; at hand as they are, or in messages."""

    def __init__(self, damping: Mapping[str, float] | None = None, *, in_messages: bool = False) -> None:
        super().__init__()
        self.damping = damping
        self.neighbours = self.get
        self._in_messages = in_messages

    def links(self, product_id: str) -> ScoredLinks | None:
        found = self.get(product_id)
        return (found[0], message(product_id, found[1])) if found is not None and self._in_messages else found


class ByLength(dict[str, float]):
    """Damping that is made when it is asked for."""

    def __init__(self, base: float) -> None:
        super().__init__()
        self._base = base

    def __missing__(self, product_id: str) -> float:
        self[product_id] = self._base ** len(product_id)
        return self[product_id]


def message(product_id: str, weights: Mapping[str, float]) -> bytes:
    """A NeighbourList with all fields."""
    counts = [number * 100 for number, _ in enumerate(weights)]
    whole = NeighbourList(
        product_id=product_id, visit_count=1 << 40, neighbour_ids=list(weights), scores=list(weights.values()), counts=counts,
        purchase_count=3, bought_ids=["b"], bought_counts=[300],
    )  # fmt: skip
    return whole.SerializeToString()


def any_situation(random: Random, names: Sequence[str] = ()) -> tuple[Situation, GlobalModels, Links, int]:
    """What ``rank_situation`` takes. ``names``: the products there are, instead of p0, p1 and so on."""
    catalog = random.sample(names, random.randint(1, len(names))) if names else [f"p{n}" for n in range(random.choice([4, 12, 300]))]
    known = random.sample(catalog, min(len(catalog), 40))
    sizes = random.choice([0, 1, 2, 5, 30]), random.choice([0, 1, 5, 40, 200])
    situation = Situation(*(random.choices(known, k=size) for size in sizes))
    links = Links(random.choice([None, ByLength(0.9)]), in_messages=random.random() < 0.5)
    for product_id in random.sample(known, random.randint(0, min(len(known), 20))):
        ids = random.sample(catalog, random.randint(0, min(len(catalog), 20)))
        weights = array("f", [random.choice([0.0, 0.25, 0.5, 1.0, random.random()]) for _ in ids])  # as a message has them
        links[product_id] = random.choice([1.0, 0.7]), dict(zip(ids, weights, strict=True))
    trending = {random.choice(catalog): random.choice([0.01, 0.3, random.random()]) for _ in range(random.choice([0, 3, 60]))}
    models = GlobalModels(
        tuple(random.choice([0.0, 0.1, random.random()]) for _ in range(SESSION_CELLS)),
        tuple(random.choice([0.0, 0.1, random.random()]) for _ in range(HISTORY_CELLS)),
        tuple(sorted(trending.items(), key=lambda entry: (-entry[1], entry[0]))),
        start_return=tuple(random.choice([0.0, 0.1, random.random()]) for _ in range(START_CELLS)),
    )
    return situation, models, links, random.choice([1, 5, 20, 50])


def any_names(random: Random) -> list[str]:
    """Up to a hundred different ids of any length and letters, those beyond the first 65,536 among them."""
    return list({"".join(random.choices(LETTERS, k=random.randint(1, 3))) for _ in range(100)})
