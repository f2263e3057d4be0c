"""``tidings worker``: one worker process, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from app.settings import load_settings

EPILOG = """
\b
Examples:
  tidings worker --settings tidings.toml
  tidings worker --port 8081 --data-dir data/b      a second worker on the same machine

A worker creates the topics that are missing, joins the group kafka.application_id and is given partitions; start as many as there
is work for, each with its own data directory. It ends by itself when a record cannot be written or another worker has taken over
its partitions: run it under a supervisor that starts it again. `curl http://127.0.0.1:8080/readyz` says whether it serves.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings file [default: TIDINGS_SETTINGS, or tidings.toml if there is one].",
)
@click.option("--broker", metavar="HOST:PORT", help="Kafka's address, instead of kafka.bootstrap_servers.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of its HTTP server, instead of http.port.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Of its tables, instead of worker.data_dir.")
def worker(settings_file: Path | None, broker: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run a worker: fold events into profiles, rank, deliver, and answer HTTP."""
    overrides: dict[str, dict[str, object]] = {"kafka": {}, "http": {}, "worker": {}}
    if broker:
        overrides["kafka"]["bootstrap_servers"] = broker
    if port is not None:
        overrides["http"]["port"] = port
    if data_dir is not None:
        overrides["worker"]["data_dir"] = str(data_dir)
    settings = load_settings(settings_file, overrides)

    from app.worker import run_worker  # late: Faust takes half a second, and wrong settings are told before

    run_worker(settings)
