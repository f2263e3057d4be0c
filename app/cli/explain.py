"""``tidings explain``: why a person gets these products, and what was left out by which rule."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import click

from app.cli.output import print_json, print_table
from app.cli.settings_option import settings_options
from app.cli.worker_answer import ask_worker
from app.settings import Settings

EPILOG = """
\b
Examples:
  tidings explain ada
  tidings explain ada --slot basket --worker http://worker-1:8080
  TIDINGS_TOKEN=... tidings explain ada --json | jq .removed

It asks a worker, any of them, with TIDINGS_TOKEN or the first token of the settings that may read.
"""


@click.command(epilog=EPILOG)
@settings_options
@click.argument("user")
@click.option("--slot", default="for_you", show_default=True, help="A slot of the worker's settings.")
@click.option("--worker", metavar="URL", help="Of any worker [default: the address in the settings].")
@click.option("--json", "as_json", is_flag=True, help="The worker's answer as it came.")
def explain(settings: Settings, user: str, slot: str, worker: str | None, as_json: bool) -> None:
    """Say why USER gets these products, and what was left out."""
    path = f"/v1/users/{quote(user, safe='')}/recommendations?slot={quote(slot, safe='')}&explain=true"
    answer = asyncio.run(ask_worker(settings, worker or _address(settings), path, "recommendations"))
    if as_json:
        print_json(answer)
        return
    if not answer["known"]:
        click.echo(f"No event of {user!r} was applied: this is what anybody gets.", err=True)
    print_table(["", "product", "title", "why"], [
        (place, one["product_id"], one.get("title") or "-", one["reason"]["text"])
        for place, one in enumerate(answer["recommendations"], 1)
    ])
    if answer["removed"]:
        click.echo("\nLeft out:", err=True)
        print_table(["product", "title", "rule", "proposed by"], [
            (one["product_id"], one["title"] or "-", one["rule"], one["strategy"]) for one in answer["removed"]
        ])


def _address(settings: Settings) -> str:
    http = settings.http
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host
    return http.advertised_url or f"http://{host}:{http.port or 8080}"
