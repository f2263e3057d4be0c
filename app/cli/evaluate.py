"""``tidings evaluate``: how well would the recommender have guessed the next product on this log?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from app.cli.evaluation_charts import draw_charts, require_charts
from app.cli.logs import EventLog, read_log
from app.cli.output import print_json, print_table
from app.domain.evaluation import Contestant, Evaluation, evaluate_log, one_partition
from app.domain.log_rows import LogRow
from app.domain.strategies import STRATEGIES
from app.streams.publisher import partition_of

EPILOG = """
\b
Examples:
  tidings evaluate clicks.parquet
  tidings evaluate clicks.csv.gz --limit 50000
  tidings evaluate clicks.jsonl --json | jq .hr_at_20
  tidings evaluate clicks.parquet --strategy trending --strategy recently_viewed --plot charts
  tidings evaluate clicks.parquet --sharded
  tidings evaluate train.csv.gz --test test.csv.gz

The log has columns ts, user and item, and session and event if they are known. It is replayed in time order; before each event the
recommender is asked for the next product, among all products, then it learns from the event. The first fifth only warms up.

With --frozen-from or --test, it learns from the first part and is asked about the second, in which profiles unfold but nothing is learned
of products.

--sharded measures what a fleet computes, which knows of neighbours what the items answered to each person.
"""

_WORDS = {
    "hr_at_20": "next product among the 20 (HR@20)",
    "mrr_at_20": "mean reciprocal rank (MRR@20)",
    "novel_hr_at_20": "next product among the 20, new ones only",
    "session_start_hr_at_20": "first product of a known person's session among the 20",
    "coverage_at_20": "products ever recommended, of those seen",
    "popularity_at_20": "mean popularity of what is recommended (most popular = 1)",
    "query_p95_ms": "ranking, 95th percentile, ms",
    "update_us": "learning from an event, mean, µs",
    "state_bytes": "state, bytes",
    "item_bytes": "of it products, bytes",
    "questions": "questions to products beside the visits",
    "rows": "rows",
    "queries": "rankings in a session",
    "novel_queries": "of them for a product new to the session",
    "session_start_queries": "rankings at session start",
    "items": "products",
    "users": "people",
}
_FOR_YOU = "for_you"


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document: the measures of for_you, and those of each strategy by its name.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows in time.")
@click.option(
    "--strategy", "names", multiple=True, type=click.Choice(sorted(STRATEGIES)), help="A strategy beside for_you; may be given repeatedly."
)
@click.option("--frozen-from", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Learn from this part of the log only.")
@click.option(
    "--test", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Learn from FILE, then ask about this log."
)
@click.option("--sharded", is_flag=True, help="What a fleet computes.")
@click.option("--partitions", type=click.IntRange(1, 1024), default=4, show_default=True, help="Of the fleet.")
@click.option("--plot", type=click.Path(file_okay=False, path_type=Path), help="Write charts (PNG) into this directory.")
def evaluate(
    file: Path,
    as_json: bool,
    limit: int | None,
    names: tuple[str, ...],
    frozen_from: float | None,
    test: Path | None,
    sharded: bool,
    partitions: int,
    plot: Path | None,
) -> None:
    """Measure the recommender on an event log, without a broker."""
    if test is not None and frozen_from is not None:
        raise click.UsageError("--test and --frozen-from exclude each other: both say where learning ends")
    if plot is not None:
        require_charts()
    logs = [read_log(file, limit), *([read_log(test)] if test is not None else [])]
    count = sum(map(len, logs))
    learned = len(logs[0]) if test is not None else int(count * frozen_from) if frozen_from is not None else None
    home = (lambda user_id: partition_of(user_id.encode(), partitions)) if sharded else one_partition
    contestants = [Contestant(name, STRATEGIES[name], sharded) for name in dict.fromkeys((_FOR_YOU, *names))]
    with _progress(logs, count) as rows:
        evaluations = evaluate_log(rows, count, time.perf_counter, contestants, frozen_from=learned, home=home)
    if plot is not None:
        for path in draw_charts(evaluations, plot):
            click.echo(f"wrote {path}", err=True)
    if as_json:
        by_name = {name: asdict(evaluation) for name, evaluation in evaluations.items()}
        print_json(by_name[_FOR_YOU] | {"sharded": sharded, "strategies": by_name})
    else:
        _print(evaluations)


def _print(evaluations: Mapping[str, Evaluation]) -> None:
    rows = [(words, *[_shown(one, name) for one in evaluations.values()]) for name, words in _WORDS.items()]
    if len(evaluations) == 1:
        print_table(["measure", "value"], rows)
        return
    if not sys.stdout.isatty():  # a pipe sees no heading
        rows.insert(0, ("strategy", *evaluations))
    print_table(["measure", *evaluations], rows)


@contextmanager
def _progress(logs: list[EventLog], count: int) -> Iterator[Iterable[LogRow]]:
    """The rows, with a bar on standard error if that is a terminal."""
    rows = chain.from_iterable(logs)
    if not sys.stderr.isatty():
        yield rows
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress.track(rows, total=count)


def _shown(evaluation: Evaluation, name: str) -> str:
    value = getattr(evaluation, name)
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
