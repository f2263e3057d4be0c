"""The ``tidings`` command: one group, whose commands are imported when they are called, so that help is fast.

Exit codes: 0 done; 1 a command could not be done; 2 wrong usage or settings; 130 stopped by Ctrl-C.
A person's mistake is answered with one message on standard error; ``--debug`` shows where it was raised.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from app.errors import CommandError, SettingsError, TidingsError


@dataclass(frozen=True)
class _Command:
    module: str
    attribute: str
    what: str


#: In the order in which a newcomer meets them.
COMMANDS = {
    "demo": _Command("app.cli.demo", "demo", "See it: a broker, a worker, a shop and an inbox on this machine."),
    "topics": _Command("app.cli.topics", "topics", "Create or check the topics in Kafka."),
    "worker": _Command("app.cli.worker_command", "worker", "Run a worker: fold events, rank, deliver, answer HTTP."),
    "send": _Command("app.cli.send", "send", "Send one event."),
    "catalog": _Command("app.cli.catalog", "catalog", "Load the shop's products (CSV, TSV, JSONL, Google Merchant XML)."),
    "replay": _Command("app.cli.replay", "replay", "Send an event log (Parquet, CSV, JSONL), in real time or faster."),
    "evaluate": _Command("app.cli.evaluate", "evaluate", "Measure the recommender on an event log, without a broker."),
    "explain": _Command("app.cli.explain", "explain", "Say why a person gets these products, and what was left out."),
    "dead-letters": _Command("app.cli.dead_letters", "dead_letters", "List, show and replay records that could not be applied."),
    "deliveries": _Command("app.cli.deliveries", "deliveries", "List, show, retry and drop deliveries that were given up."),
    "resync": _Command("app.cli.resync", "resync", "Send current lists again: to a person, a segment, everybody."),
    "destinations": _Command("app.cli.destinations", "destinations", "List, set up, test, pause and resume destinations."),
}

EPILOG = """
\b
Try it:
  tidings demo
  tidings send --user ada --event product_viewed --product red-shoes

\b
Against your own Kafka:
  tidings topics create --broker kafka:9092
  tidings worker --settings tidings.toml
  curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/v1/users/ada

\b
When a destination misbehaves:
  tidings destinations test crm
  tidings deliveries list --by reason
  tidings deliveries retry --destination crm

Settings come from tidings.toml (or --settings, or TIDINGS_SETTINGS), and one at a time from the environment:
TIDINGS_KAFKA__PARTITIONS=16. deploy/tidings.toml names them all.
"""


class Refused(click.ClickException):
    """A TidingsError, told in its own words."""

    def __init__(self, error: TidingsError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if isinstance(error, SettingsError) else 1


class CommandGroup(click.Group):
    """Finds commands in COMMANDS, and turns a TidingsError into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = getattr(importlib.import_module(place.module), place.attribute)
        except ModuleNotFoundError as exc:
            if exc.name == place.module:
                raise Refused(CommandError(f"`tidings {cmd_name}` is not part of this installation")) from exc
            raise Refused(CommandError(f"`tidings {cmd_name}` needs {exc.name}: pip install 'tidings[demo]'")) from exc
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.what) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TidingsError as error:
            if ctx.params["debug"]:
                raise
            raise Refused(error) from error


@click.group(cls=CommandGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show tracebacks, and what the Kafka client logs.")
@click.version_option(package_name="tidings")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Tidings keeps a live profile and product recommendations for every email subscriber.

    A change reaches the email platform within a second of the click.
    """
    if not debug and ctx.invoked_subcommand not in ("worker", "demo"):
        # What goes wrong is told once, by the command; a worker's log tells the rest.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    elif debug:
        logging.basicConfig(level=logging.INFO)


def main() -> NoReturn:
    """The entry point of the ``tidings`` script and of ``python -m app``."""
    cli(prog_name="tidings")
    raise SystemExit(0)  # click has left already
