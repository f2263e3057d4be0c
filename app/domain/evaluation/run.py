"""One pass over a log, with as many strategies side by side as are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.domain.catalog import NO_CATALOG
from app.domain.evaluation.live_items import LiveItems
from app.domain.evaluation.measures import PARTS, Evaluation, Tally
from app.domain.held_neighbours import HeldNeighbours, encode_held_neighbours
from app.domain.items import encode_item
from app.domain.log_rows import LogRow, event_of
from app.domain.models import GlobalModels
from app.domain.profile import SESSION_GAP_MS, Applied, fold_event, new_profile
from app.domain.ranking import NeighbourSource, Situation
from app.domain.sharded_fold import ShardedTables
from app.domain.share import encode_share, fold_share, new_share
from app.domain.strategies import STRATEGIES, Query, Strategy
from app.domain.visits import MAX_DISTANCE
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.profile_pb2 import Profile

LIST_LENGTH = 20
WARM_UP_PART = 0.2
#: Rows between two preparations of the global models; a worker prepares them when a share comes in.
_MODELS_EVERY = 100
_NOTHING_HELD = HeldNeighbours()


@dataclass(frozen=True, slots=True)
class Contestant:
    """A strategy, and where it reads neighbours: from the lists that users hold if ``is_sharded``, else from the live items."""

    name: str
    strategy: Strategy
    is_sharded: bool = False


FOR_YOU = Contestant("for_you", STRATEGIES["for_you"])


def one_partition(user_id: str) -> int:
    """The partition of every user where there is one."""
    return 0


def evaluate_log(
    rows: Iterable[LogRow],
    row_count: int,
    clock: Callable[[], float],
    contestants: Sequence[Contestant] = (FOR_YOU,),
    *,
    frozen_from: int | None = None,
    home: Callable[[str], int] = one_partition,
) -> dict[str, Evaluation]:
    """Evaluate each contestant, by name, on ``rows`` in time order.

    ``row_count`` says how many will come, ``clock`` gives seconds (only differences are used). From row ``frozen_from`` on, nothing is
    learned, and only from there is anything asked. ``home`` gives a user's partition: sharded contestants go by that many shares.
    """
    run = _Run(contestants, clock, home)
    scored_from = int(row_count * WARM_UP_PART) if frozen_from is None else frozen_from
    for index, row in enumerate(rows):
        learns = frozen_from is None or index < frozen_from
        run.step(row, index, learns=learns, part=index * PARTS // row_count if index >= scored_from else None)
    return run.results()


class _Run:
    def __init__(self, contestants: Sequence[Contestant], clock: Callable[[], float], home: Callable[[str], int]) -> None:
        self._clock = clock
        self._tallies = [(contestant, Tally()) for contestant in contestants]
        self._answers = any(contestant.is_sharded for contestant in contestants)
        self._sharded = ShardedTables(home)
        self._tables = self._sharded.plain
        self._live = LiveItems(self._tables)
        #: Of all partitions, for who is not sharded beside those who are; else the tables have it.
        self._whole = new_share(0) if self._answers and not all(contestant.is_sharded for contestant in contestants) else None
        #: By whether a contestant is sharded.
        self._models: dict[bool, GlobalModels] = {}
        #: Rows learned since the models were prepared.
        self._unprepared = 0
        self._popularity: Counter[str] = Counter()
        self._max_popularity = 0
        self._update_seconds = 0.0
        self._rows = 0

    def step(self, row: LogRow, index: int, learns: bool, part: int | None) -> None:
        """Ask about the row if it is of a ``part`` that is scored; then learn from it, or let its person's profile unfold."""
        if self._unprepared >= _MODELS_EVERY or (self._unprepared and not learns) or not self._models:
            self._models = self._prepare()
            self._unprepared = 0
        profile = self._tables.profiles.get(row.user)
        if part is not None and profile is not None and profile.history.product_ids:
            self._ask(row, profile, part)
        event = event_of(row, index)
        started = self._clock()
        if learns:
            self._learn(event, index, row, profile)
            self._unprepared += 1
        else:
            self._unfold(event)
        self._update_seconds += self._clock() - started
        self._rows += 1
        self._popularity[row.item] += 1
        self._max_popularity = max(self._max_popularity, self._popularity[row.item])

    def _prepare(self) -> dict[bool, GlobalModels]:
        of_shares = GlobalModels.of(self._tables.shares.values())
        return {True: of_shares, False: GlobalModels.of([self._whole]) if self._whole else of_shares}

    def _learn(self, event: Event, index: int, row: LogRow, profile: Profile | None) -> None:
        self._live.forget(row.item)
        for product_id in profile.history.product_ids[-2 * MAX_DISTANCE :] if profile is not None else ():
            self._live.forget(product_id)
        if not self._answers:
            self._tables.fold(event, 0, index)
            return
        outcome = self._sharded.fold(event, index)
        if self._whole is not None and isinstance(outcome, Applied):
            for interaction in outcome.interactions:
                fold_share(self._whole, interaction)

    def _unfold(self, event: Event) -> None:
        profile = self._tables.profiles.get(event.user_id)
        if profile is None:
            profile = self._tables.profiles[event.user_id] = new_profile(event.user_id)
        outcome = fold_event(profile, event)
        if self._answers and isinstance(outcome, Applied):
            for interaction in outcome.interactions:
                self._sharded.answer(interaction)

    def _ask(self, row: LogRow, profile: Profile, part: int) -> None:
        situation = _situation(profile, row)
        seen = set(situation.session)
        for contestant, tally in self._tallies:
            started = self._clock()
            source: NeighbourSource
            if contestant.is_sharded:
                source = self._sharded.held.get(row.user) or _NOTHING_HELD
            else:
                source = self._live
                self._live.now_ms = row.ts_ms
            query = Query(profile, situation, source, self._models[contestant.is_sharded], NO_CATALOG, row.ts_ms)
            ranked = contestant.strategy(query, LIST_LENGTH + len(seen))
            tally.query_seconds.append(self._clock() - started)
            products = [recommendation.product_id for recommendation in ranked]
            top = products[:LIST_LENGTH]
            if not situation.session:
                tally.at_start.add(top, row.item)
                continue
            tally.in_session.add(top, row.item)
            tally.by_part[part].add(top, row.item)
            if row.item not in seen:
                tally.novel.add([product_id for product_id in products if product_id not in seen][:LIST_LENGTH], row.item)
            tally.describe(top, self._popularity, self._max_popularity)

    def results(self) -> dict[str, Evaluation]:
        tables = self._tables
        item_bytes = sum(len(encode_item(item)) for item in tables.items.values())
        profile_bytes = sum(profile.ByteSize() for profile in tables.profiles.values())
        share_bytes = sum(len(encode_share(share)) for share in tables.shares.values())
        held_bytes = sum(len(encode_held_neighbours(held)) for held in self._sharded.held.values())

        def evaluation(tally: Tally, is_sharded: bool) -> Evaluation:
            asked = tally.in_session.asked
            own_held_bytes = held_bytes if is_sharded else 0
            return Evaluation(
                rows=self._rows,
                queries=asked,
                novel_queries=tally.novel.asked,
                session_start_queries=tally.at_start.asked,
                items=len(tables.items),
                users=len(tables.profiles),
                hr_at_20=tally.in_session.rate(),
                mrr_at_20=tally.in_session.mean_reciprocal_rank(),
                novel_hr_at_20=tally.novel.rate(),
                session_start_hr_at_20=tally.at_start.rate(),
                coverage_at_20=len(tally.recommended) / len(self._popularity) if asked else None,
                popularity_at_20=tally.popularity_sum / tally.popularity_terms if tally.popularity_terms else None,
                query_p95_ms=tally.query_p95_ms(),
                update_us=self._update_seconds / self._rows * 1e6 if self._rows else 0.0,
                state_bytes=item_bytes + profile_bytes + share_bytes + own_held_bytes,
                item_bytes=item_bytes,
                profile_bytes=profile_bytes,
                share_bytes=share_bytes,
                held_bytes=own_held_bytes,
                questions=self._sharded.questions if is_sharded else 0,
                hr_at_20_by_part=tuple([hits.rate() for hits in tally.by_part]),
            )

        return {contestant.name: evaluation(tally, contestant.is_sharded) for contestant, tally in self._tallies}


def _situation(profile: Profile, row: LogRow) -> Situation:
    """As in ranking, but the log says which session the row is of; without sessions in the log, half an hour of quiet ends one."""
    history = profile.history.product_ids[:]
    count = profile.session.history_count
    is_same = profile.session.session_id == row.session if row.session else row.ts_ms - profile.session.last_event_at_ms <= SESSION_GAP_MS
    if not is_same or not count:
        return Situation([], history)
    return Situation(profile.session.product_ids[:], history[:-count])
