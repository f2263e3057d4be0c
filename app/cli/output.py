"""What commands print: a table on a terminal, tabs between columns in a pipe, JSON Lines where asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import orjson


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows of one cell per column. In a pipe there is no heading, and a cell holds no tab and no line break."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            # As Text: what came from outside is not markup.
            table.add_row(*(Text(printable(cell)) for cell in row))
        Console().print(table)
    else:
        for row in rows:
            click.echo("\t".join(printable(cell) for cell in row))


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on one line."""
    click.echo(orjson.dumps(document))


def printable(cell: object) -> str:
    """On one line: control characters, a terminal's escape sequences among them, are shown and not obeyed."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(cell))
