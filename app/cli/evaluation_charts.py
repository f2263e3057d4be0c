"""Charts of an evaluation, as PNG files: how often strategies are right, over the log, how much of the catalog they show, what they cost.

matplotlib is wanted for these alone, so it is imported only when a chart is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.domain.evaluation import PARTS, Evaluation
from app.errors import CommandError

_SIZE_INCHES = (9.0, 5.0)
_DOTS_PER_INCH = 120
_GUESSES = {"hr_at_20": "HR@20", "mrr_at_20": "MRR@20", "novel_hr_at_20": "novel HR@20", "session_start_hr_at_20": "HR@20 at session start"}
_REACH = {"coverage_at_20": "coverage (more is better)", "popularity_at_20": "popularity (less is less biased)"}


def require_charts(find: Callable[[str], object] = find_spec) -> None:
    """Raise CommandError if charts cannot be drawn here. ``find`` gives None for a package that is not installed."""
    if find("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: install it with `pip install 'tidings[plot]'`")


def draw_charts(evaluations: Mapping[str, Evaluation], directory: Path) -> list[Path]:
    """Write the charts into ``directory``, which is made if need be; the paths, in the order of the charts.

    Raises CommandError if the directory cannot be written to.
    """
    from matplotlib.figure import Figure

    charts = {
        "quality": _bars(Figure, evaluations, _GUESSES, "How often the next product was among the 20"),
        "over_time": _lines(Figure, evaluations),
        "reach": _bars(Figure, evaluations, _REACH, "How much of the catalog is shown"),
        "cost": _bars(Figure, evaluations, {"query_p95_ms": "ranking, 95th percentile, ms"}, "What a ranking takes"),
    }
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in charts.items():
            paths.append(directory / f"{name}.png")
            figure.savefig(paths[-1], dpi=_DOTS_PER_INCH, bbox_inches="tight")
    except OSError as exc:
        raise CommandError(f"charts cannot be written to {directory}: {exc}") from exc
    return paths


def _bars(figure_type: Any, evaluations: Mapping[str, Evaluation], measures: Mapping[str, str], title: str) -> Any:
    """A group of bars for each measure, a bar for each strategy; none where nothing was asked."""
    figure, axes = _axes(figure_type, title)
    width = 0.8 / len(evaluations)
    for number, (name, evaluation) in enumerate(evaluations.items()):
        places = [place + number * width for place in range(len(measures))]
        heights = [getattr(evaluation, measure) or 0.0 for measure in measures]
        bars = axes.bar(places, heights, width, label=name)
        if len(evaluations) <= 4:
            axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(measures))], list(measures.values()))
    axes.legend(frameon=False)
    return figure


def _lines(figure_type: Any, evaluations: Mapping[str, Evaluation]) -> Any:
    """The in-session hit rate of each part of the log."""
    figure, axes = _axes(figure_type, "HR@20 in a session, over the log")
    for name, evaluation in evaluations.items():
        known = [((part + 0.5) * 100 / PARTS, rate) for part, rate in enumerate(evaluation.hr_at_20_by_part) if rate is not None]
        axes.plot([at for at, _ in known], [rate for _, rate in known], marker="o", markersize=3, label=name)
    axes.set_xlabel("% of the log")
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _axes(figure_type: Any, title: str) -> tuple[Any, Any]:
    figure = figure_type(figsize=_SIZE_INCHES)
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes
