"""What is wanted of each figure, and whether a run has reached it. All that compares is here; nothing here measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The same job in another system, or for the jobs that only Tidings has: the bare job of the slowest one, with as many users.
BARE = "state_per_user"

#: How many times another system's bare job Tidings must manage: its job, users, the other system.
BARS = {
    (BARE, 10_000, "naive_faust"): 60.0,
    (BARE, 10_000, "quix_streams_at_least_once"): 2.5,
    (BARE, 10_000, "bytewax"): 2.5,
    (BARE, 10_000, "pathway"): 1.8,
    (BARE, 10_000, "kafka_streams_exactly_once"): 2.0,
    (BARE, 10_000, "kafka_streams_at_least_once_cached"): 1.0,
    (BARE, 10_000, "bare_aiokafka"): 0.45,
    (BARE, 1_000_000, "naive_faust"): 25.0,
    (BARE, 1_000_000, "kafka_streams_at_least_once_cached"): 1.5,
    (BARE, 1_000_000, "quix_streams_at_least_once"): 2.5,
    ("profile_fold", 10_000, "naive_faust"): 20.0,
    ("full_path", 10_000, "naive_faust"): 8.0,
}
#: Below so many milliseconds at the 99th percentile, while events flow at half of what the worker keeps up with.
LATENCY_BARS_MS = {"event_to_view": 50.0, "event_to_delivery": 250.0, "view": 5.0}
LATENCY_BAR_LOAD = 0.5
#: From the least to the most users, the cost per event grows by less than this.
GROWTH_BAR, GROWTH_BAR_USERS = 0.30, 1_000_000
#: Of two workers over one.
TWO_WORKERS_BAR = 1.7


@dataclass(frozen=True)
class Judged:
    """One figure beside what is wanted of it."""

    what: str
    figure: str
    wanted: str
    reached: bool


def judged(written: Mapping[str, Any]) -> Iterator[Judged]:
    """Of build/bench.json: every figure that has a bar and was measured."""
    for ratio in written.get("ratios", []):
        if (wanted := ratio.get("at_least")) is not None:
            what = f"{ratio['job']}, {ratio['users']:,} users, over {ratio['against']['system']}'s {ratio['against']['job']}"
            yield Judged(what, f"{ratio['median']:.3g}x", f">= {wanted:g}x", ratio["median"] >= wanted)
    for one in written.get("latency", []):
        bar = LATENCY_BARS_MS.get(one["measure"])
        if bar is not None and one["load"] == LATENCY_BAR_LOAD:
            what = f"{one['measure']} p99 at {one['load']:.0%} of capacity"
            yield Judged(what, f"{one['p99_ms']:.1f} ms", f"< {bar:g} ms", one["p99_ms"] < bar)
    for size in (written.get("growth") or {}).get("sizes", []):
        if size["users"] == GROWTH_BAR_USERS and size["grown"] is not None:
            what = f"cost per event on the full path with {size['users']:,} users"
            yield Judged(what, f"{size['grown']:+.0%}", f"< {GROWTH_BAR:+.0%}", size["grown"] < GROWTH_BAR)
    if two := written.get("two_workers"):
        for name, what in (("wall_ratio", "two workers over one, by the clock"), ("core_second_ratio", "the same, by core-seconds")):
            yield Judged(what, f"{two[name]:.2f}x", f">= {TWO_WORKERS_BAR:g}x", two[name] >= TWO_WORKERS_BAR)
