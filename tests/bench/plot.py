"""``python -m tests.bench.plot``: build/bench.png from build/bench.json: the bare job in every system, and what the stages of ours cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.peers import ROOT

_OURS, _THEIRS, _DOTS_PER_INCH = "#0b6e4f", "#9aa5b1", 120
_BARE = "state_per_user"


def draw(written: Mapping[str, Any], path: Path) -> None:
    """One panel for each number of users of the bare job, and one for the stages, if they were measured."""
    runs = [run for run in written["runs"] if run["job"] == _BARE]
    users = sorted({run["users"] for run in runs})
    panels = len(users) + bool(written["stages"])
    if not panels:
        return
    figure = Figure(figsize=(6.5 * panels, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel, count in zip(axes, users, strict=False):
        _systems(panel, [run for run in runs if run["users"] == count], f"One Protobuf state per user, {count:,} users")
    if written["stages"]:
        _stages(axes[-1], written["stages"])
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _systems(axes: Axes, runs: list[Mapping[str, Any]], title: str) -> None:
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
    axes.spines[["top", "right"]].set_visible(False)


def _stages(axes: Axes, stages: list[Mapping[str, Any]]) -> None:
    bars = axes.barh([stage["stage"] for stage in stages][::-1], [stage["cpu_us_per_event"] for stage in stages][::-1], color=_OURS)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(title="The full path, a stage at a time", xlabel="µs of processor time an event")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plot", description="Draw what make bench has measured.")
    parser.add_argument("--input", type=Path, default=ROOT / "build" / "bench.json", help="default build/bench.json")
    parser.add_argument("--output", type=Path, help="default: beside the input, .png")
    options = parser.parse_args()
    draw(json.loads(options.input.read_text()), options.output or options.input.with_suffix(".png"))


if __name__ == "__main__":
    main()
