"""``tidings evaluate``: how well would the recommender have guessed the next product on this log?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from app.cli.logs import EventLog, read_log
from app.cli.output import print_json, print_table
from app.domain.evaluation import Evaluation, evaluate_log
from app.domain.log_rows import LogRow

EPILOG = """
\b
Examples:
  tidings evaluate clicks.parquet
  tidings evaluate clicks.csv.gz --limit 50000
  tidings evaluate clicks.jsonl --json | jq .hr_at_20

The log has columns ts, user and item, and session and event if they are known. It is replayed in time order; before each event the
recommender is asked for the next product, among all products, then it learns from the event. The first fifth only warms up.
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
    "rows": "rows",
    "queries": "rankings in a session",
    "novel_queries": "of them for a product new to the session",
    "session_start_queries": "rankings at session start",
    "items": "products",
    "users": "people",
}


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows in time.")
def evaluate(file: Path, as_json: bool, limit: int | None) -> None:
    """Measure the recommender on an event log, without a broker."""
    log = read_log(file, limit)
    with _progress(log) as rows:
        evaluation = evaluate_log(rows, len(log), time.perf_counter)
    if as_json:
        print_json(asdict(evaluation))
    else:
        print_table(["measure", "value"], [(words, _shown(evaluation, name)) for name, words in _WORDS.items()])


@contextmanager
def _progress(log: EventLog) -> Iterator[Iterable[LogRow]]:
    """The rows, with a bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress.track(log, total=len(log))


def _shown(evaluation: Evaluation, name: str) -> str:
    value = getattr(evaluation, name)
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
