"""What an evaluation measures of one strategy."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

#: Parts of the log that the hit rate is told for one by one.
PARTS = 20


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Ratios are None where nothing was asked. Times are wall time of this process, without I/O."""

    rows: int
    queries: int
    novel_queries: int
    session_start_queries: int
    items: int
    users: int
    hr_at_20: float | None
    mrr_at_20: float | None
    novel_hr_at_20: float | None
    session_start_hr_at_20: float | None
    #: Distinct products recommended, of those seen.
    coverage_at_20: float | None
    #: Mean popularity of what was recommended, the most popular product being 1.
    popularity_at_20: float | None
    query_p95_ms: float | None
    update_us: float
    #: Serialised items, profiles, shares and, if sharded, what users hold of neighbours.
    state_bytes: int
    item_bytes: int
    profile_bytes: int
    share_bytes: int
    held_bytes: int
    #: What items were asked beside the visits; 0 unless sharded.
    questions: int
    #: In-session hit rate of each twentieth of the log.
    hr_at_20_by_part: tuple[float | None, ...]


@dataclass(slots=True)
class Hits:
    """Queries of one kind, and where the target stood."""

    asked: int = 0
    hits: int = 0
    reciprocal_ranks: float = 0.0

    def add(self, products: list[str], target: str) -> None:
        self.asked += 1
        if target in products:
            self.hits += 1
            self.reciprocal_ranks += 1.0 / (products.index(target) + 1)

    def rate(self) -> float | None:
        return self.hits / self.asked if self.asked else None

    def mean_reciprocal_rank(self) -> float | None:
        return self.reciprocal_ranks / self.asked if self.asked else None


@dataclass(slots=True)
class Tally:
    """All that is counted of one strategy while the log runs."""

    in_session: Hits = field(default_factory=Hits)
    novel: Hits = field(default_factory=Hits)
    at_start: Hits = field(default_factory=Hits)
    by_part: list[Hits] = field(default_factory=lambda: [Hits() for _ in range(PARTS)])
    recommended: set[str] = field(default_factory=set)
    popularity_sum: float = 0.0
    popularity_terms: int = 0
    query_seconds: array[float] = field(default_factory=lambda: array("d"))

    def describe(self, products: list[str], popularity: Counter[str], max_popularity: int) -> None:
        """Note what a list shows, whether or not it hit."""
        self.recommended.update(products)
        self.popularity_sum += sum([popularity[product_id] for product_id in products]) / max_popularity
        self.popularity_terms += len(products)

    def query_p95_ms(self) -> float | None:
        seconds = sorted(self.query_seconds)
        return seconds[int(len(seconds) * 0.95)] * 1000 if seconds else None
