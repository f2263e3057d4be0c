"""A bar on standard error for what is sent, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Hands out what is called with each further count."""
    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("sent", total=total)
        yield lambda count: bar.update(task, advance=count)
