"""The ranking against the reference, ../shared/prototype/streampair.py: both learn the same real clicks, then answer the same queries in
turn, slice by slice, in one process.

Ours reads live items (app/domain/evaluation), as the reference does, and says why each product is there, as the reference does not. It is
measured as it was installed, and in Python without the kernel. Times are of the process alone, so other processes hardly matter.
``python -m tests.bench.ranking`` measures it by itself, without a broker, in half a minute.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.table import Table

from app.cli.logs import EventLog, read_log
from app.domain.evaluation import LiveItems
from app.domain.items import KEPT_NEIGHBOURS
from app.domain.kernel import KERNEL, Kernel, kernel_info
from app.domain.log_rows import event_of
from app.domain.models import GlobalModels
from app.domain.plain_fold import PlainTables
from app.domain.profile import MAX_SESSION_PRODUCTS
from app.domain.ranking import Situation, rank_situation
from app.domain.recommendations import Recommendation
from app.domain.visits import MAX_CROSS_SESSION, MAX_DISTANCE
from tests.brokers.apache_kafka import ROOT
from tidings.updates.v1.update_pb2 import ReasonKind

REFERENCE = ROOT.parent / "shared" / "prototype" / "streampair.py"
LOG = ROOT.parent / "shared" / "data" / "bolcom_toy" / "events.parquet"
LIST_LENGTH = 20
#: Processor time of the reference over ours that is wanted.
AT_LEAST = 2.0
#: Queries that one of the two answers before it is the other's turn.
SLICE_QUERIES = 100


@dataclass(frozen=True)
class RankingPlan:
    """How many events are learned, in how many situations of a session after them both are asked, and how often."""

    learn_events: int = 100_000
    queries: int = 2_000
    rounds: int = 9


@dataclass(frozen=True)
class RankingRun:
    """Means over all queries and rounds, in µs of processor time; ratios are of the rounds.

    The reference answers product ids; ours, products with their scores and reasons.
    """

    plan: RankingPlan
    queries: int
    ours_us: float
    in_python_us: float
    reference_us: float
    ratios: tuple[float, ...]
    ratios_in_python: tuple[float, ...]
    #: Lists with the same products in the same order, and with the same products, as far as they are scored; and of these products, how
    #: many are in both. The rest of a short list is what trends, which the reference counts exactly and we in blocks.
    same_lists: int
    same_products: int
    products_in_common: float

    def as_json(self) -> dict[str, Any]:
        return {
            "log": LOG.parent.name, "events": self.plan.learn_events, "queries": self.queries, "kernel": kernel_info(),
            "cpu_us_per_ranking": self.ours_us, "cpu_us_per_ranking_in_python": self.in_python_us,
            "reference_cpu_us_per_ranking": self.reference_us, "ratio": median(self.ratios), "ratios": list(self.ratios),
            "ratio_in_python": median(self.ratios_in_python), "at_least": AT_LEAST,
            "same_lists": self.same_lists, "same_products": self.same_products,
            "products_in_common": self.products_in_common,
        }  # fmt: skip


def ranking_table(run: RankingRun) -> Table:
    table = Table("ranking", "µs CPU", "reference, µs CPU", "ratio", "wanted", title="Ranking against the reference, in one process")
    reference = f"{run.reference_us:.0f}"
    installed = "as installed, compiled" if KERNEL is not None else "as installed"
    table.add_row(installed, f"{run.ours_us:.0f}", reference, f"{median(run.ratios):.2f}", f"{AT_LEAST:.0f}")
    table.add_row("in Python", f"{run.in_python_us:.0f}", reference, f"{median(run.ratios_in_python):.2f}", "-")
    table.caption = (
        f"{run.queries:,} lists: {run.same_lists:,} the same, {run.same_products:,} of the same products, "
        f"{run.products_in_common:.1%} of the products in both"
    )
    return table


def why_not() -> str:
    """Why the reference cannot be run here; empty if it can."""
    missing = [str(path) for path in (REFERENCE, LOG) if not path.exists()]
    return f"not beside the checkout: {', '.join(missing)}" if missing else ""


def measure_ranking(plan: RankingPlan) -> RankingRun:
    """Learn the first events of the log, then rank in each of the situations that come next, in as many rounds."""
    log = read_log(LOG)
    ours, in_python, reference, situations = _learn(log, plan)
    for ask in (ours, in_python, reference):  # warms up
        for asked in situations:
            ask(asked)
    spent = [0.0, 0.0, 0.0]
    ratios: tuple[list[float], list[float]] = [], []
    for round_ in range(plan.rounds):
        own = _round((ours, in_python, reference), situations, first=round_)
        spent = [total + seconds for total, seconds in zip(spent, own, strict=True)]
        for of, seconds in zip(ratios, own, strict=False):
            of.append(own[2] / seconds)
    pairs = [(one, reference(asked)[: len(one)]) for asked in situations for one in [_scored(ours(asked))]]
    ours_us, in_python_us, reference_us = (seconds / plan.rounds / len(situations) * 1e6 for seconds in spent)
    return RankingRun(
        plan=plan, queries=len(situations), ours_us=ours_us, in_python_us=in_python_us, reference_us=reference_us,
        ratios=tuple(ratios[0]), ratios_in_python=tuple(ratios[1]),
        same_lists=sum(one == other for one, other in pairs),
        same_products=sum(set(one) == set(other) for one, other in pairs),
        products_in_common=sum(len(set(one) & set(other)) for one, other in pairs) / max(1, sum(len(one) for one, _ in pairs)),
    )  # fmt: skip


#: A situation, and its time in seconds.
Asked: TypeAlias = tuple[Situation, float]
Answer = TypeVar("Answer")
Ask: TypeAlias = Callable[[Asked], list[Answer]]
AskOurs: TypeAlias = Ask[Recommendation]


def _round(all_: Sequence[Ask[Any]], situations: Sequence[Asked], first: int) -> list[float]:
    """Each slice is answered by one right after the other; who is first changes from slice to slice."""
    spent = [0.0] * len(all_)
    for number, start in enumerate(range(0, len(situations), SLICE_QUERIES), first):
        slice_ = situations[start : start + SLICE_QUERIES]
        for turn in range(len(all_)):
            which = (number + turn) % len(all_)
            ask = all_[which]
            began = process_time()
            for asked in slice_:
                ask(asked)
            spent[which] += process_time() - began
    return spent


def _scored(ranked: Sequence[Recommendation]) -> list[str]:
    """The products without those that fill a short list."""
    return [recommendation.product_id for recommendation in ranked if recommendation.reason.kind != ReasonKind.REASON_KIND_TRENDING]


def _learn(log: EventLog, plan: RankingPlan) -> tuple[AskOurs, AskOurs, Ask[str], list[Asked]]:
    """Ours as installed, ours in Python, and the reference, taught; and the situations that come next. Nothing is learned while these are
    asked.
    """
    tables = PlainTables()
    with _importing(REFERENCE.parent):
        streampair = importlib.import_module("streampair")
    reference = streampair.StreamPair(K=KEPT_NEIGHBOURS, m=MAX_DISTANCE, xm=MAX_CROSS_SESSION)
    sessions: dict[str, list[str]] = {}
    situations: list[Asked] = []
    for index, row in enumerate(log):
        session = sessions.setdefault(row.session, [])
        if index < plan.learn_events:
            tables.fold(event_of(row, index), 0, index)
            reference.update(row.session, session[-MAX_SESSION_PRODUCTS:], row.item, row.ts_ms / 1000)
        elif session:
            situations.append((Situation(session[-MAX_SESSION_PRODUCTS:], []), row.ts_ms / 1000))
            if len(situations) == plan.queries:
                break
        session.append(row.item)
    models = GlobalModels.of(tables.shares.values())
    live = LiveItems(tables)

    def ask_ours(asked: Asked, kernel: Kernel | None) -> list[Recommendation]:
        situation, at = asked
        live.now_ms = int(at * 1000)
        return rank_situation(situation, models, live, LIST_LENGTH, kernel)

    def ask_reference(asked: Asked) -> list[str]:
        situation, at = asked
        found: list[str] = reference.topk(situation.session, at, LIST_LENGTH)
        return found

    return partial(ask_ours, kernel=KERNEL), partial(ask_ours, kernel=None), ask_reference, situations


@contextmanager
def _importing(directory: Path) -> Iterator[None]:
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    Console(width=100, highlight=False).print(ranking_table(measure_ranking(RankingPlan())))
