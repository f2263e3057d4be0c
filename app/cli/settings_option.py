"""The options by which every command finds its settings: a file, and the broker's address over it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.settings import load_settings


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--settings`` and ``--broker``, and hands the command ``settings``. Raises SettingsError with every problem found."""

    @click.option(
        "--settings",
        "settings_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The settings file [default: TIDINGS_SETTINGS, or tidings.toml if there is one].",
    )
    @click.option("--broker", metavar="HOST:PORT", help="Kafka's address, instead of kafka.bootstrap_servers.")
    @functools.wraps(command)
    def with_settings(*args: Any, settings_file: Path | None, broker: str | None, **kwargs: Any) -> Any:
        overrides = {"kafka": {"bootstrap_servers": broker}} if broker else None
        return command(*args, settings=load_settings(settings_file, overrides), **kwargs)

    return with_settings
