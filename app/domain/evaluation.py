"""Prequential evaluation: replay a log in time order; before each event ask for the next product, then learn from it.

The very fold, items, global models and ranking of a worker run here, but in one process: neighbours are read from the live items, not
from the lists that profiles hold, and a session is over when the log says so. Protocol: the first fifth of the rows only warms up; then
every row with at least one earlier row in its session asks for the top 20 over the whole catalogue, without sampled negatives. "Novel":
targets that the session has not met, the session's products filtered out of the list. "Session start": the first row of a session of a
person with a history.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from app.domain.decay import growth
from app.domain.items import FREQUENCY_POWER, encode_item
from app.domain.log_rows import LogRow, event_of
from app.domain.models import GlobalModels
from app.domain.plain_fold import PlainTables
from app.domain.profile import SESSION_GAP_MS
from app.domain.ranking import ScoredList, Situation, rank_situation
from app.domain.share import encode_share
from tidings.state.v1.profile_pb2 import Profile

LIST_LENGTH = 20
WARM_UP_PART = 0.2
#: Rows between two preparations of the global models; a worker prepares them when a share comes in.
_MODELS_EVERY = 50
#: delta: how much popular neighbours are lowered, where their popularity is known.
_POPULARITY_POWER = -0.05


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
    #: Serialised items, profiles and shares.
    state_bytes: int
    item_bytes: int
    profile_bytes: int
    share_bytes: int


def evaluate_log(rows: Iterable[LogRow], row_count: int, clock: Callable[[], float]) -> Evaluation:
    """Evaluate on ``rows`` in time order. ``row_count`` says how many will come, ``clock`` gives seconds (only differences are used)."""
    run = _Run(clock)
    warm_up = int(row_count * WARM_UP_PART)
    for index, row in enumerate(rows):
        run.step(row, index, is_scored=index >= warm_up)
    return run.result()


class LiveItems:
    """Neighbours read from the items themselves, with the popularity of each neighbour: what a single process can do.

    Parsed lists are kept until their item changes.
    """

    def __init__(self, tables: PlainTables) -> None:
        self._items = tables.items
        self._lists: dict[str, tuple[list[str], list[float], int, int]] = {}
        self._damping: dict[str, float] = {}
        self.now_ms = 0

    def forget(self, product_id: str) -> None:
        """The item is about to change."""
        self._lists.pop(product_id, None)
        self._damping.pop(product_id, None)

    def neighbours(self, product_id: str) -> ScoredList | None:
        found = self._lists.get(product_id)
        if found is None:
            item = self._items.get(product_id)
            if item is None or not item.neighbours:
                return None
            links = item.weights()
            found = list(links), [float(link) for link in links.values()], item.weight, item.window
            self._lists[product_id] = found
        ids, weights, weight, window = found
        scale = 1.0 / growth(self.now_ms, window)
        return scale / (weight * scale + 1.0) ** FREQUENCY_POWER, ids, weights

    def damp(self, scores: dict[str, float]) -> None:
        known = self._damping
        for product_id in scores:
            factor = known.get(product_id)
            if factor is None:
                # As of the item's own last visit: at a power of 0.05, a month more or less is 1%.
                item = self._items[product_id]
                factor = known[product_id] = (item.weight / growth(item.last_visit_at_ms, item.window) + 1.0) ** _POPULARITY_POWER
            scores[product_id] *= factor

    def together(self, product_id: str) -> tuple[int, dict[str, int]]:
        return 0, {}

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        return 0, [], []


@dataclass(slots=True)
class _Hits:
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


@dataclass(slots=True)
class _Run:
    clock: Callable[[], float]
    tables: PlainTables = field(default_factory=PlainTables)
    in_session: _Hits = field(default_factory=_Hits)
    novel: _Hits = field(default_factory=_Hits)
    at_start: _Hits = field(default_factory=_Hits)
    popularity: Counter[str] = field(default_factory=Counter)
    max_popularity: int = 0
    recommended: set[str] = field(default_factory=set)
    popularity_sum: float = 0.0
    popularity_terms: int = 0
    query_seconds: array[float] = field(default_factory=lambda: array("d"))
    update_seconds: float = 0.0
    rows: int = 0
    models: GlobalModels = field(default_factory=lambda: GlobalModels.of(()))
    source: LiveItems = field(init=False)

    def __post_init__(self) -> None:
        self.source = LiveItems(self.tables)

    def step(self, row: LogRow, index: int, is_scored: bool) -> None:
        if index % _MODELS_EVERY == 0:
            self.models = GlobalModels.of(self.tables.shares.values())
        profile = self.tables.profiles.get(row.user)
        if is_scored and profile is not None and profile.history.product_ids:
            self._ask(row, profile)
        event = event_of(row, index)
        started = self.clock()
        self._forget(row, profile)
        self.tables.fold(event, 0, index)
        self.update_seconds += self.clock() - started
        self.rows += 1
        self.popularity[row.item] += 1
        self.max_popularity = max(self.max_popularity, self.popularity[row.item])

    def _forget(self, row: LogRow, profile: Profile | None) -> None:
        self.source.forget(row.item)
        for product_id in profile.history.product_ids[-8:] if profile is not None else ():
            self.source.forget(product_id)

    def _ask(self, row: LogRow, profile: Profile) -> None:
        started = self.clock()
        situation = _situation(profile, row)
        seen = set(situation.session)
        self.source.now_ms = row.ts_ms
        ranked = rank_situation(situation, self.models, self.source, LIST_LENGTH + len(seen))
        self.query_seconds.append(self.clock() - started)
        products = [recommendation.product_id for recommendation in ranked]
        top = products[:LIST_LENGTH]
        if not situation.session:
            self.at_start.add(top, row.item)
            return
        self.in_session.add(top, row.item)
        if row.item not in seen:
            self.novel.add([product_id for product_id in products if product_id not in seen][:LIST_LENGTH], row.item)
        self._describe(top)

    def _describe(self, products: list[str]) -> None:
        self.recommended.update(products)
        self.popularity_sum += sum(self.popularity[product_id] for product_id in products) / self.max_popularity
        self.popularity_terms += len(products)

    def result(self) -> Evaluation:
        seconds = sorted(self.query_seconds)
        item_bytes = sum(len(encode_item(item)) for item in self.tables.items.values())
        profile_bytes = sum(profile.ByteSize() for profile in self.tables.profiles.values())
        share_bytes = sum(len(encode_share(share)) for share in self.tables.shares.values())
        asked = self.in_session.asked
        return Evaluation(
            rows=self.rows,
            queries=asked,
            novel_queries=self.novel.asked,
            session_start_queries=self.at_start.asked,
            items=len(self.tables.items),
            users=len(self.tables.profiles),
            hr_at_20=self.in_session.rate(),
            mrr_at_20=self.in_session.reciprocal_ranks / asked if asked else None,
            novel_hr_at_20=self.novel.rate(),
            session_start_hr_at_20=self.at_start.rate(),
            coverage_at_20=len(self.recommended) / len(self.popularity) if asked else None,
            popularity_at_20=self.popularity_sum / self.popularity_terms if self.popularity_terms else None,
            query_p95_ms=seconds[int(len(seconds) * 0.95)] * 1000 if seconds else None,
            update_us=self.update_seconds / self.rows * 1e6 if self.rows else 0.0,
            state_bytes=item_bytes + profile_bytes + share_bytes,
            item_bytes=item_bytes,
            profile_bytes=profile_bytes,
            share_bytes=share_bytes,
        )


def _situation(profile: Profile, row: LogRow) -> Situation:
    """As in ranking, but the log says which session the row is of; without sessions in the log, half an hour of quiet ends one."""
    history = profile.history.product_ids[:]
    count = profile.session.history_count
    is_same = profile.session.session_id == row.session if row.session else row.ts_ms - profile.session.last_event_at_ms <= SESSION_GAP_MS
    if not is_same or not count:
        return Situation([], history)
    return Situation(profile.session.product_ids[:], history[:-count])
