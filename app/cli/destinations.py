"""``tidings destinations``: what is in the settings, whether it works, and stopping and starting it."""

from __future__ import annotations

import click

EPILOG = """
\b
Examples:
  tidings destinations list
"""


@click.group(epilog=EPILOG)
def destinations() -> None:
    """List, set up, test, pause and resume destinations."""
