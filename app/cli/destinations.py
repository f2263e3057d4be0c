"""``tidings destinations``: what is in the settings, whether it works, and stopping and starting it."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from app.cli.command_writing import now_ms
from app.cli.destination_setup import FieldSetup
from app.cli.destination_states import MEANINGS, read_states, state_rows, state_words, tell_as_operator
from app.cli.destination_trial import INVENTED_EMAIL, INVENTED_USER, Trial, as_known, client_of, invented, try_out
from app.cli.destination_words import Explanation, explain
from app.cli.output import print_json, print_table, printable
from app.cli.settings_option import settings_options
from app.cli.worker_answer import ask_worker
from app.destinations import Destination, destination_of
from app.errors import CommandError
from app.settings import Settings, TargetSettings

EPILOG = """
\b
Examples:
  tidings destinations list
  tidings destinations setup crm --check        which fields are missing?
  tidings destinations setup crm                make them
  tidings destinations test crm --email me@example.com
  tidings destinations pause crm --reason "their import is broken"
  tidings destinations resume crm

A new destination: put it into the settings of the workers; setup; test; restart the workers; `tidings resync --all --destination crm`.
"""

@click.group(epilog=EPILOG)
def destinations() -> None:
    """List, set up, test, pause and resume destinations."""


@destinations.command("list", short_help="List them, and whether they take requests.")
@settings_options
@click.option("--worker", metavar="URL", help="Ask a worker, which also knows how much is due, instead of Kafka.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each; with --worker, its answer as it came.")
def list_destinations(settings: Settings, worker: str | None, as_json: bool) -> None:
    """List the destinations of the settings, and whether they take requests."""
    if worker is not None:
        _list_of_worker(asyncio.run(ask_worker(settings, worker, "/v1/destinations", "destinations")), as_json)
        return
    rows = state_rows(settings, asyncio.run(read_states(settings)) if settings.targets else {}, now_ms())
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ["name", "kind", "address", "state", "since", "by", "reason"]
    _print_rows(columns, rows)
    if not rows:
        click.echo("no destination in the settings: [[targets]] sections name them; deploy/tidings.toml shows one of each kind", err=True)


@destinations.command()
@settings_options
@click.argument("name")
@click.option("--check", is_flag=True, help="Only look; exit code 1 if something is missing.")
def setup(settings: Settings, name: str, check: bool) -> None:
    """Make the fields at NAME that are missing. To run it twice does no harm."""
    if not asyncio.run(_setup(settings, destination_of(_target(settings, name)), check)):
        raise SystemExit(1)


@destinations.command("test")
@settings_options
@click.argument("name")
@click.option("--email", metavar="ADDRESS", help=f"Of whom is sent [default: {INVENTED_EMAIL}, or what is known of --user].")
@click.option("--user", metavar="ID", help=f"Somebody you know, with the list that they have [default: an invented {INVENTED_USER}].")
@click.option("--wait", "wait_seconds", default=60.0, show_default=True, type=click.FloatRange(0, 900), help="Seconds for a job.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def test_destination(
    settings: Settings, name: str, email: str | None, user: str | None, wait_seconds: float, as_json: bool
) -> None:
    """Send one real request to NAME, and explain the answer. Exit code 0: it works."""
    target_settings = _target(settings, name)
    target = destination_of(target_settings)
    email_attribute = getattr(target_settings, "email_attribute", "email")
    trial = asyncio.run(_test(settings, target, email, user, email_attribute, wait_seconds))
    told = explain(target, trial.found)
    if as_json:
        print_json(_trial_json(name, trial, told))
    else:
        _tell(name, user or INVENTED_USER, trial, told)
        if told.is_good:
            click.echo(_afterword(target_settings, user), err=True)
    if not told.is_good:
        raise SystemExit(1)


@destinations.command()
@settings_options
@click.argument("name")
@click.option("--reason", required=True, help="For those who wonder: at most 200 characters.")
def pause(settings: Settings, name: str, reason: str) -> None:
    """Let no worker send anything to NAME, until `resume`. What is due waits, and what is current then is sent."""
    _target(settings, name)
    if not reason.strip():
        raise click.BadParameter("say why", param_hint="--reason")
    asyncio.run(tell_as_operator(settings, name, is_paused=True, reason=reason.strip(), now_ms=now_ms()))
    click.echo(f"{name} is paused on every worker. `tidings destinations resume {name}` starts it again", err=True)


@destinations.command(short_help="Let workers send to NAME again, whatever stopped it.")
@settings_options
@click.argument("name")
@click.option("--reason", default="", help="For those who wonder.")
def resume(settings: Settings, name: str, reason: str) -> None:
    """Let workers send to NAME again, whatever stopped it: a pause, refused credentials, a missing field, 410, errors."""
    _target(settings, name)
    asyncio.run(tell_as_operator(settings, name, is_paused=False, reason=reason.strip(), now_ms=now_ms()))
    click.echo(f"{name} takes requests again. If what stopped it is not mended, it is stopped again: `tidings destinations list`", err=True)


def _target(settings: Settings, name: str) -> TargetSettings:
    for target in settings.targets:
        if target.name == name:
            return target
    known = ", ".join(target.name for target in settings.targets) or "none: name the settings file of the workers with --settings"
    raise CommandError(f"there is no destination {name!r} in the settings; there is {known}")


# Set up ---------------------------------------------------------------------------------------------------------------------


async def _setup(settings: Settings, target: Destination, check: bool) -> bool:
    """Whether everything is there at the end."""
    client = client_of(settings, target)
    try:
        fields = FieldSetup(target, client)
        found = await fields.look()
        absent = {field.name for field in found.missing}
        if check:
            print_table(["field", "there"], [(field.name, "no" if field.name in absent else "yes") for field in found.wanted])
        else:
            for number, field in enumerate(found.missing, 1):
                await fields.make(field)
                click.echo(f"made {printable(field.name)} ({number} of {len(found.missing)})")
            if found.missing:
                found = await fields.look()
                absent = {field.name for field in found.missing}
    finally:
        await client.close()
    if found.hint:
        click.echo(f"For [[targets]] {target.name} in the settings:", err=True)
        click.echo(found.hint)
    if absent:
        to_do = f"`tidings destinations setup {target.name}` makes them" if check else "they do not show (yet): run it again in a minute"
        click.echo(f"{len(absent)} of {len(found.wanted)} fields are missing at {target.name}; {to_do}", err=True)
    else:
        click.echo(f"all {len(found.wanted)} fields are there; next: `tidings destinations test {target.name}`", err=True)
    return not absent


# Test -----------------------------------------------------------------------------------------------------------------------


async def _test(
    settings: Settings, target: Destination, email: str | None, user: str | None, email_attribute: str, wait_seconds: float
) -> Trial:
    if user is None:
        rendered = invented(INVENTED_USER, email or INVENTED_EMAIL, email_attribute, now_ms())
    else:
        rendered = await as_known(settings, user, target.name, email, email_attribute, now_ms())
    client = client_of(settings, target)
    try:
        return await try_out(target, rendered, client, wait_seconds=wait_seconds)
    finally:
        await client.close()


def _tell(name: str, user: str, trial: Trial, told: Explanation) -> None:
    if trial.sent is None:
        click.echo(f"nothing was sent to {name} about {printable(user)}")
    else:
        method, host = trial.sent
        answered = f"answered {trial.status}" if trial.status is not None else "no answer"
        polls = f", its job asked for {trial.polls} time(s)" if trial.polls else ""
        click.echo(f"{method} to {host} about {printable(user)}: {answered}, {trial.seconds:.2f} s{polls}")
    for label, text in (("outcome", told.outcome), ("it says", told.said), ("meaning", told.meaning), ("to do", told.to_do)):
        if text:
            click.echo(f"  {label + ':':9}{printable(text)}")


def _afterword(target: TargetSettings, user: str | None) -> str:
    """What to look at over there after a success."""
    if target.kind == "braze":
        whom = "only people whom it knows, and ignores others in silence: look there whether the products came"
        return f"Braze writes {whom}" + ("; with --user you can name one whom it knows" if user is None else "")
    if user is None:
        return f"{INVENTED_USER} stands at {target.name} now, with three invented products; delete it there if it is in the way"
    return f"look at {target.name} whether everything stands there as a template needs it"


def _trial_json(name: str, trial: Trial, told: Explanation) -> dict[str, Any]:
    return {
        "destination": name,
        "works": told.is_good,
        "outcome": told.outcome,
        "status": trial.status,
        "seconds": round(trial.seconds, 3),
        "polls": trial.polls,
        "said": told.said or None,
        "meaning": told.meaning,
        "to_do": told.to_do or None,
    }


# List -----------------------------------------------------------------------------------------------------------------------


def _list_of_worker(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    columns = ["name", "kind", "state", "due", "resync_due", "in_flight", "in_jobs", "oldest_due_seconds", "reason"]
    _print_rows(columns, [row for row in answer["destinations"] if isinstance(row, dict) and "name" in row and "state" in row])
    for url in answer.get("workers", {}).get("silent", []):
        click.echo(f"the worker at {printable(url)} did not answer: its people are not counted", err=True)


def _print_rows(columns: list[str], rows: list[dict[str, Any]]) -> None:
    def cell(row: dict[str, Any], name: str) -> Any:
        return state_words(row) if name == "state" else "-" if row.get(name) is None else row[name]

    print_table([name.replace("_", " ") for name in columns], [[cell(row, name) for name in columns] for row in rows])
    for row in rows:
        if row.get("cause") in MEANINGS:
            click.echo(f"{printable(row['name'])}: {MEANINGS[row['cause']]}", err=True)
