"""``python -m tests.bench.table``: the README's tables, in Markdown, from build/bench.json. Where another system is ahead, they say so."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.bars import BARE, GROWTH_BAR, GROWTH_BAR_USERS, LATENCY_BAR_LOAD, LATENCY_BARS_MS, TWO_WORKERS_BAR, judged
from tests.bench.peers import ROOT

_OURS = "tidings"
_NAMES = {
    "tidings": "**Tidings**", "naive_faust": "Faust, as documented", "bare_aiokafka": "bare aiokafka + parse (keeps nothing)",
    "bare_confluent_rocksdb": "bare confluent-kafka + RocksDB (no changelog)",
    "quix_streams_at_least_once": "Quix Streams, at least once", "quix_streams_exactly_once": "Quix Streams, exactly once",
    "bytewax": "Bytewax, recovery on", "pathway": "Pathway, persistence on",
    "kafka_streams_at_least_once": "Kafka Streams, at least once, no cache",
    "kafka_streams_at_least_once_cached": "Kafka Streams, at least once, record cache",
    "kafka_streams_exactly_once": "Kafka Streams, exactly_once_v2",
}  # fmt: skip
_MEASURES = {"event_to_view": "event → view", "event_to_delivery": "event → webhook", "view": "a view by itself"}


def readme_tables(written: Mapping[str, Any]) -> str:
    """All that was measured; what was not is left out."""
    parts = [
        *_throughput(written), *_growth(written), *_two_workers(written), *_latency(written), *_recovery(written), *_stages(written),
        *_judgement(written),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _throughput(written: Mapping[str, Any]) -> Iterator[str]:
    runs = written.get("runs", [])
    bare = [run for run in runs if run["job"] == BARE]
    for users in sorted({run["users"] for run in bare}):
        rows = []
        for run in sorted((run for run in bare if run["users"] == users), key=lambda run: -run["events_per_second"]):
            against = (BARE, users, run["system"])
            rows.append([_NAMES.get(run["system"], run["system"]), *_figures(run), *_comparison(written, BARE, users, against)])
        yield f"One Protobuf state per user, durable ({BARE}), {users:,} users:"
        yield _table(["system", "events/s on one core", "µs CPU an event", "peak RSS", "Tidings over it (each pair)", "wanted"], rows)
    rows = []
    for run in runs:
        if run["job"] != BARE:
            against = (BARE, run["users"], "naive_faust")
            rows.append([run["job"], f"{run['users']:,}", *_figures(run), *_comparison(written, run["job"], run["users"], against)])
    if rows:
        yield "Tidings' own jobs, over Faust's bare one:"
        yield _table(["job", "users", "events/s on one core", "µs CPU an event", "peak RSS", "over it (each pair)", "wanted"], rows)


def _figures(run: Mapping[str, Any]) -> list[str]:
    return [f"{run['events_per_second']:,.0f}", f"{run['cpu_us_per_event']:,.1f}", f"{run['peak_rss_mb']:,} MB"]


def _comparison(written: Mapping[str, Any], job: str, users: int, against: tuple[str, int, str]) -> list[str]:
    """The quotient with its pairs, and what is wanted."""
    for ratio in written.get("ratios", []):
        other = ratio["against"]
        if (ratio["job"], ratio["users"]) == (job, users) and (other["job"], other["users"], other["system"]) == against:
            median, wanted = ratio["median"], ratio["at_least"]
            pairs = f" ({', '.join(f'{pair:.3g}' for pair in ratio['pairs'])})" if len(ratio["pairs"]) > 1 else ""
            ahead = ", **it is ahead**" if median < 1 else ""
            return [f"{median:.3g}x{pairs}{ahead}", "-" if wanted is None else _wanted(f"≥ {wanted:g}x", median >= wanted)]
    return ["-", "-"]


def _growth(written: Mapping[str, Any]) -> Iterator[str]:
    if not (growth := written.get("growth")):
        return
    rows = []
    for size in growth["sizes"]:
        grown = size["grown"]
        has_bar = size["users"] == GROWTH_BAR_USERS and grown is not None
        cold, warm = size["cold_recovery"], size["warm_restart"]
        rows.append([
            f"{size['users']:,}", "-" if size["cpu_us_per_event"] is None else f"{size['cpu_us_per_event']:,.0f}",
            "-" if grown is None else f"{grown:+.0%} ({', '.join(f'{pair:+.0%}' for pair in size['grown_pairs'])})",
            _wanted(f"< {GROWTH_BAR:+.0%}", grown < GROWTH_BAR) if has_bar else "-",
            "-" if cold is None else f"{cold['ready_seconds']:.1f} s, {cold['records_read']:,} records",
            "-" if warm is None else f"{warm['ready_seconds']:.1f} s", f"{size['rss_mb']:,} MB", f"{size['disk_bytes_per_user']:,} bytes",
        ])  # fmt: skip
    yield "The full path with more users: an event each of users who are there already, each ranked and delivered; and a restart with them:"
    columns = ["users", "µs CPU an event", "more than with the fewest (each pair)", "wanted"]
    yield _table([*columns, "back from nothing", "back from its directory", "RSS", "on disk per user"], rows)


def _two_workers(written: Mapping[str, Any]) -> Iterator[str]:
    if two := written.get("two_workers"):
        rows = [
            [what, f"{two[name]:.2f}x", _wanted(f"≥ {TWO_WORKERS_BAR:g}x", two[name] >= TWO_WORKERS_BAR)]
            for name, what in (
                ("core_second_ratio", "events for the workers' core-seconds, a core each"),
                ("wall_ratio", f"events a second by the clock, {two['cores']} cores shared with the broker and the receiver"),
            )
        ]  # fmt: skip
        yield "Two workers over one, on the full path:"
        yield _table(["measured as", "two over one", "wanted"], rows)


def _latency(written: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for one in written.get("latency", []):
        bar = LATENCY_BARS_MS.get(one["measure"]) if one["load"] == LATENCY_BAR_LOAD else None
        rows.append([
            _MEASURES.get(one["measure"], one["measure"]), f"{one['load']:.0%} ({one['events_per_second']:,.0f} events/s)",
            f"{one['p50_ms']:.1f} ms", f"{one['p99_ms']:.1f} ms", "-" if bar is None else _wanted(f"p99 < {bar:g} ms", one["p99_ms"] < bar),
        ])  # fmt: skip
    if rows:
        yield "Latency, open loop, while events flow at a part of what is kept up with:"
        yield _table(["measure", "load", "p50", "p99", "wanted"], rows)


def _recovery(written: Mapping[str, Any]) -> Iterator[str]:
    if found := written.get("recovery"):
        yield f"The bare job after SIGKILL, {found[0]['events']:,} events of {found[0]['users']:,} users, from start to new events handled:"
        rows = [[_NAMES.get(one["system"], one["system"]), f"{one['warm_seconds']:.1f} s", f"{one['cold_seconds']:.1f} s"] for one in found]
        yield _table(["system", "with its directory", "without it"], rows)


def _stages(written: Mapping[str, Any]) -> Iterator[str]:
    if stages := written.get("stages"):
        yield "The full path, a stage at a time:"
        rows = [[one["stage"], one["adds"], f"{one['cpu_us_per_event']:.1f}"] for one in stages]
        yield _table(["stage", "adds", "µs CPU an event"], [*rows, ["all", "", f"{stages[-1]['cpu_us_per_event_up_to_here']:.1f}"]])


def _judgement(written: Mapping[str, Any]) -> Iterator[str]:
    bars = list(judged(written))
    if bars:
        missed = [f"{one.what}: {one.figure} ({one.wanted})" for one in bars if not one.reached]
        yield f"{len(bars) - len(missed)} of {len(bars)} bars are reached." + (" Not reached: " + "; ".join(missed) + "." if missed else "")
    for name, what in (("left_out", "Left out"), ("failed", "Failed")):
        if found := written.get(name):
            yield f"{what}: " + "; ".join(f"{key} ({str(reason).splitlines()[0]})" for key, reason in found.items()) + "."
    if not_begun := written.get("not_begun"):
        yield f"No time was left for: {', '.join(not_begun)}."


def _wanted(what: str, reached: bool) -> str:
    return what if reached else f"**{what}, not reached**"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.table", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--input", type=Path, default=ROOT / "build" / "bench.json", help="default build/bench.json")
    options = parser.parse_args()
    if not options.input.exists():
        sys.exit(f"{options.input} is not there: make bench")
    sys.stdout.write(readme_tables(json.loads(options.input.read_text())))


if __name__ == "__main__":
    main()
