"""The demo's worker: its settings, made for one run, its process, and what is noticed when it dies."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from app.cli.embedded_broker import EmbeddedBroker, free_port
from app.errors import CommandError
from app.settings import KafkaSettings

TOKEN_VARIABLE, SECRET_VARIABLE = "TIDINGS_DEMO_TOKEN", "TIDINGS_DEMO_SECRET"
#: A worker that is just joining takes up to ten; nothing of a demo's is worth waiting for.
_STOP_SECONDS = 5.0
_LOG_LINES_SHOWN = 25
_LOG_TAIL_BYTES = 32_768


@dataclass(frozen=True)
class Plan:
    """What one run uses: names and secrets of its own, so that two demos on one Kafka do not meet. Neither secret is ever printed."""

    kafka: str
    port: int | None
    #: The kind that is shown instead of the inbox, if one is.
    platform: str = ""
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    secret: str = field(default_factory=lambda: "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(), repr=False)
    worker_port: int = field(default_factory=free_port)

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.worker_port}"


def kafka_settings(plan: Plan, bootstrap_servers: str) -> KafkaSettings:
    """Small and quick: the embedded broker holds a fetch for its whole wait, and a new group for part of its time-outs."""
    name = f"tidings-demo-{plan.run_id}"
    settings: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "application_id": name,
        "topic_prefix": name,
        "partitions": 4,
        "fetch_max_wait_ms": 20,
    }
    if not plan.kafka:
        settings |= {"session_timeout_seconds": 6, "heartbeat_interval_seconds": 2, "rebalance_timeout_seconds": 6, "allow_unfenced": True}
    return KafkaSettings.model_validate(settings)


def inbox_target(url: str) -> dict[str, Any]:
    """The ``[[targets]]`` section of the demo's inbox."""
    return {"name": "demo-inbox", "url": url, "secret": f"env:{SECRET_VARIABLE}", "allow_http": True}


def settings_toml(plan: Plan, kafka: KafkaSettings, data_dir: Path, target: dict[str, Any]) -> str:
    """The worker's settings file, with one target. Secrets stay in the environment."""
    sections: dict[str, dict[str, Any]] = {
        "[kafka]": kafka.model_dump(exclude_unset=True),
        "[worker]": {"data_dir": str(data_dir), "block_cache_bytes": 32 * 1024**2},
        "[ranking]": {"tick_ms": 50, "share_interval_seconds": 1},
        "[http]": {"port": plan.worker_port},
        "[delivery]": {"allow_networks": ["127.0.0.0/8"]},
        "[[tokens]]": {"name": "demo", "token": f"env:{TOKEN_VARIABLE}", "scopes": ["ingest", "read", "operate"]},
        "[[targets]]": target,
    }
    lines: list[str] = []
    for heading, values in sections.items():
        lines += [heading, *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


async def start_worker(plan: Plan, settings: Path, log: Path) -> asyncio.subprocess.Process:
    # The demo's settings alone: no TIDINGS_ variable of the caller reaches this worker.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    environment |= {TOKEN_VARIABLE: plan.token, SECRET_VARIABLE: plan.secret}
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "worker", "--settings", str(settings),
            env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the worker before the broker
            preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
        )


async def stop_worker(worker: asyncio.subprocess.Process) -> None:
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        await asyncio.wait_for(worker.wait(), _STOP_SECONDS)
    except TimeoutError:
        worker.kill()
        await worker.wait()


@dataclass(frozen=True)
class Watch:
    """Notices when a part dies, and says which and what it said last."""

    worker: asyncio.subprocess.Process
    log: Path
    broker: EmbeddedBroker | None

    async def while_waiting_for(self, goal: Awaitable[None], seconds: float, what: str) -> None:
        async def within() -> None:
            try:
                await asyncio.wait_for(goal, seconds)
            except TimeoutError:
                raise CommandError(f"the worker did not {what} within {seconds:.0f} s.{self._last_words()}") from None
            except aiohttp.ClientError as exc:
                await asyncio.sleep(1)  # if it has died, that is what is told
                raise CommandError(f"the worker stopped answering: {exc}.{self._last_words()}") from exc

        tasks = [asyncio.create_task(within()), asyncio.create_task(self.until_a_part_dies())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_a_part_dies(self) -> None:
        while True:
            if self.broker is not None and not self.broker.running:
                raise CommandError("the embedded broker ended by itself, and what it held is gone: start the demo again")
            if self.worker.returncode is not None:
                raise CommandError(f"the worker ended by itself with exit code {self.worker.returncode}.{self._last_words()}")
            await asyncio.sleep(0.25)

    def _last_words(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "\nIts last words:\n" + "\n".join(f"  {line}" for line in lines) if lines else " It said nothing."


def _die_with_parent() -> Callable[[], None]:
    """So that a killed demo leaves no worker behind: PR_SET_PDEATHSIG (1), see prctl(2)."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGTERM)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list():
            return "[" + ", ".join(_toml(v) for v in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{name} = {_toml(v)}" for name, v in value.items()) + " }"
        case _:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
