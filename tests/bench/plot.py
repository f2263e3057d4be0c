"""``python -m tests.bench.plot``: build/bench.png from build/bench.json, a panel for each thing that was measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.peers import ROOT

_OURS, _THEIRS, _DOTS_PER_INCH = "#0b6e4f", "#9aa5b1", 120
_BARE, _COLUMNS = "state_per_user", 3


def draw(written: Mapping[str, Any], path: Path) -> None:
    """A panel for each number of users of the bare job, and one for whatever else was measured; nothing when nothing was."""
    panels: list[Callable[[Axes], None]] = []
    runs = [run for run in written["runs"] if run["job"] == _BARE]
    for users in sorted({run["users"] for run in runs}):
        these = [run for run in runs if run["users"] == users]
        panels.append(partial(_systems, runs=these, title=f"One Protobuf state per user, {users:,} users"))
    if written["stages"]:
        panels.append(partial(_stages, stages=written["stages"]))
    if sizes := [size for size in (written.get("growth") or {}).get("sizes", []) if size["cpu_us_per_event"]]:
        panels.append(partial(_growth, sizes=sizes))
    if written["latency"]:
        panels.append(partial(_latency, latency=written["latency"]))
    if written.get("recovery"):
        panels.append(partial(_recovery, found=written["recovery"]))
    if not panels:
        return
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.5 * columns, 4.5 * rows), layout="constrained")
    all_axes = [axes for row in figure.subplots(rows, columns, squeeze=False) for axes in row]
    for axes, panel in zip(all_axes, panels, strict=False):
        panel(axes)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _systems(axes: Axes, runs: Sequence[Mapping[str, Any]], title: str) -> None:
    ordered = sorted(runs, key=lambda run: run["events_per_second"])
    speeds = [run["events_per_second"] / 1000 for run in ordered]
    colors = [_OURS if run["system"] == "tidings" else _THEIRS for run in ordered]
    axes.barh([run["system"] for run in ordered], speeds, color=colors)
    # From the slowest to the fastest of the samples: what the machine did meanwhile.
    samples = [[sample["events_per_second"] / 1000 for sample in run["samples"]] for run in ordered]
    axes.hlines(range(len(ordered)), [min(of) for of in samples], [max(of) for of in samples], color="black", linewidth=1)
    for place, (speed, of) in enumerate(zip(speeds, samples, strict=True)):
        axes.annotate(f"{speed:,.1f}", (max(of), place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set(title=title, xlabel="thousand events a second on one core (median; line: slowest to fastest)")
    axes.margins(x=0.12)


def _stages(axes: Axes, stages: Sequence[Mapping[str, Any]]) -> None:
    bars = axes.barh([stage["stage"] for stage in stages][::-1], [stage["cpu_us_per_event"] for stage in stages][::-1], color=_OURS)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(title="The full path, a stage at a time", xlabel="µs of processor time an event")
    axes.margins(x=0.12)


def _growth(axes: Axes, sizes: Sequence[Mapping[str, Any]]) -> None:
    """Beside each number of users, how much more an event costs than with the fewest at the same time."""
    bars = axes.bar([f"{size['users']:,}" for size in sizes], [size["cpu_us_per_event"] for size in sizes], color=_OURS)
    labels = [f"{size['cpu_us_per_event']:,.0f}" + ("" if size["grown"] is None else f" ({size['grown']:+.0%})") for size in sizes]
    axes.bar_label(bars, labels, padding=3)
    axes.set(title="The full path, an event each of users who are there", xlabel="users", ylabel="µs of processor time an event")
    axes.margins(y=0.12)


def _latency(axes: Axes, latency: Sequence[Mapping[str, Any]]) -> None:
    """From the median to the 99th percentile."""
    names = [f"{one['measure'].replace('_', ' ')}, {one['load']:.0%}" for one in latency][::-1]
    places, ordered = range(len(names)), list(latency)[::-1]
    axes.hlines(places, [one["p50_ms"] for one in ordered], [one["p99_ms"] for one in ordered], color=_OURS, linewidth=6)
    for place, one in enumerate(ordered):
        said = f"{one['p50_ms']:.0f} to {one['p99_ms']:.0f}"
        axes.annotate(said, (one["p99_ms"], place), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(list(places), names)
    axes.set(title="Latency at a part of the capacity, open loop", xlabel="ms, from the median to the 99th percentile", xscale="log")
    axes.margins(x=0.2)


def _recovery(axes: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    names = [one["system"] for one in found]
    for shift, (kind, color) in zip((-0.2, 0.2), (("warm", _THEIRS), ("cold", _OURS)), strict=True):
        places, seconds = [place + shift for place in range(len(names))], [one[f"{kind}_seconds"] for one in found]
        bars = axes.barh(places, seconds, 0.4, color=color, label=kind)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.legend(loc="lower right", frameon=False)
    axes.set(title=f"Back after SIGKILL, {found[0]['users']:,} users", xlabel="seconds from start to new events handled")
    axes.margins(x=0.12)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plot", description="Draw what make bench has measured.")
    parser.add_argument("--input", type=Path, default=ROOT / "build" / "bench.json", help="default build/bench.json")
    parser.add_argument("--output", type=Path, help="default: beside the input, .png")
    options = parser.parse_args()
    draw(json.loads(options.input.read_text()), options.output or options.input.with_suffix(".png"))


if __name__ == "__main__":
    main()
