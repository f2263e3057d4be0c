"""What was measured, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench.bars import Judged, judged
from tests.bench.catalog import catalog_table
from tests.bench.deliveries import deliveries_table
from tests.bench.growth import Size
from tests.bench.latency import Latency
from tests.bench.peer_recovery import peer_recovery_table
from tests.bench.ranking import ranking_table
from tests.bench.results import Ratio, Results
from tests.bench.systems.tidings_path import WHAT_A_STAGE_ADDS
from tests.bench.two_workers import TwoWorkers


def print_results(results: Results, console: Console) -> None:
    if results.runs:
        console.print(_runs_table(results))
    if ratios := results.ratios():
        console.print(_ratios_table(ratios))
    if results.stages:
        console.print(_stages_table(results))
        console.print(_per_event(results), soft_wrap=True)
    if results.latency:
        console.print(_latency_table(results.latency))
    if results.growth:
        console.print(_growth_table(results.growth))
    if results.two_workers and results.two_workers.twos:
        console.print(_two_workers_table(results.two_workers))
    if results.came_back:
        console.print(peer_recovery_table(results.came_back))
    if results.catalog:
        console.print(catalog_table(results.catalog))
    if results.ranking:
        console.print(ranking_table(results.ranking))
    if results.deliveries:
        console.print(deliveries_table(results.deliveries))
    if bars := list(judged(results.as_json())):
        console.print(_bars_table(bars))


def _runs_table(results: Results) -> Table:
    table = _table("Median of the rounds; one core for the system, one for the broker", "job", "users", "system")
    for heading in ("events", "events/s", "µs CPU/event", "peak RSS"):
        table.add_column(heading, justify="right")
    for key, runs in results.samples().items():
        table.add_row(
            key.job, f"{key.users:,}", key.system, f"{runs[0].events:,}", f"{median(r.events_per_second for r in runs):,.0f}",
            f"{median(r.cpu_us_per_event for r in runs):,.1f}", f"{median(r.peak_rss_bytes for r in runs) / 1e6:,.0f} MB",
        )
    return table


def _stages_table(results: Results) -> Table:
    first = next(iter(results.stages.values()))[0]
    table = _table(f"The full path a stage at a time, {first.events:,} events of {first.users:,} users", "stage", "adds")
    for heading in ("µs CPU/event", "up to here", "events/s"):
        table.add_column(heading, justify="right")
    for stage, total, own in results.stage_costs():
        rate = median(run.events_per_second for run in results.stages[stage])
        table.add_row(stage, WHAT_A_STAGE_ADDS[stage], f"{own:,.1f}", f"{total:,.1f}", f"{rate:,.0f}")
    return table


def _per_event(results: Results) -> str:
    """How much the whole path did for an event, on which its cost depends: a user is ranked and written to once for several events."""
    whole = [*results.stages.values()][-1][-1]
    counted = whole.extra.get("counted", {})

    def of(what: str) -> str:
        return f"{sum(count for name, count in counted.items() if name.startswith(f'tidings_{what}')) / whole.events:.2f} {what}"

    return f"an event caused {of('visits')}, {of('neighbours')}, {of('rankings')}, {of('deliveries')} (last turn)"


def _ratios_table(ratios: list[Ratio]) -> Table:
    table = _table("Events a second over the mean of the other system's, right before and after", "job", "users", "against")
    for heading in ("median", "pairs", "wanted"):
        table.add_column(heading, justify="right")
    for ratio in ratios:
        middle, wanted = median(ratio.pairs), ratio.at_least
        said = "" if wanted is None else f"{wanted:g}x " + ("reached" if middle >= wanted else "[bold red]not reached[/]")
        pairs = " ".join(f"{pair:.3g}" for pair in ratio.pairs)
        table.add_row(ratio.one.job, f"{ratio.one.users:,}", f"{ratio.other.system} {ratio.other.job}", f"{middle:.3g}x", pairs, said)
    return table


def _latency_table(latencies: list[Latency]) -> Table:
    table = _table("Latency while events flow, open loop", "measure")
    for heading in ("load", "events/s", "p50 ms", "p99 ms", "max ms", "samples", "worker's core"):
        table.add_column(heading, justify="right")
    for one in latencies:
        table.add_row(
            one.measure, f"{one.load:.0%}", f"{one.events_per_second:,.0f}", f"{one.p50_ms:,.1f}", f"{one.p99_ms:,.1f}",
            f"{one.max_ms:,.1f}", f"{one.samples:,}", f"{one.worker_core:.0%}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _growth_table(sizes: Iterable[Size]) -> Table:
    table = _table("The full path, an event each of users who are there already; and a worker with so many users that comes back", "users")
    for heading in ("µs CPU/event", "grown", "pairs", "cold s", "records", "warm s", "RSS", "bytes/user on disk"):
        table.add_column(heading, justify="right")
    for size in (one.as_json() for one in sizes):
        cold, warm = size["cold_recovery"] or {}, size["warm_restart"] or {}
        table.add_row(
            f"{size['users']:,}", f"{size['cpu_us_per_event'] or 0:,.0f}", "" if size["grown"] is None else f"{size['grown']:+.0%}",
            " ".join(f"{pair:+.0%}" for pair in size["grown_pairs"]), f"{cold.get('ready_seconds', 0):.1f}",
            f"{cold.get('records_read', 0):,}", f"{warm.get('ready_seconds', 0):.1f}", f"{size['rss_mb']:,} MB",
            f"{size['disk_bytes_per_user']:,}",
        )  # fmt: skip
    return table


def _two_workers_table(two: TwoWorkers) -> Table:
    title = f"Two workers over one: {two.wall_ratio:.2f}x by the clock, {two.core_second_ratio:.2f}x by core-seconds (cores are shared)"
    table = _table(title, "workers")
    for heading in ("events/s", "µs CPU/event", "of the broker"):
        table.add_column(heading, justify="right")
    for run in (*two.ones, *two.twos):
        costs = f"{run.cpu_us_per_event:,.1f}", f"{run.broker_cpu_us_per_event:,.1f}"
        table.add_row(str(run.workers), f"{run.events_per_second:,.0f}", *costs)
    return table


def _bars_table(bars: Iterable[Judged]) -> Table:
    table = _table("What is wanted", "what", "figure", "wanted", "")
    for one in bars:
        table.add_row(one.what, one.figure, one.wanted, "reached" if one.reached else "[bold red]not reached[/]")
    return table
