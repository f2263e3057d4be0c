"""``tidings demo``: a broker, a worker, a shop and an inbox on this machine, and a page that shows a click reach the email."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import click
from aiohttp import web
from rich.console import Console

from app.cli.demo_platform import platform_target
from app.cli.demo_worker import SECRET_VARIABLE, Plan, Watch, inbox_target, kafka_settings, settings_toml, start_worker, stop_worker
from app.cli.embedded_broker import EmbeddedBroker
from app.errors import BrokerError, CommandError, TidingsError
from app.settings import KafkaSettings
from app.streams.kafka_client import kafka_client
from app.streams.topics import TopicNames, create_topics, require_sound
from app.web.demo.platforms import PLATFORMS
from app.web.demo.server import DemoServer
from app.web.demo.shop import SHOPPERS, load_catalog, seed_events

DEFAULT_PORT = 8090
_READY_SECONDS = 120.0
_LEARN_SECONDS = 60.0
_SEED_REQUEST_EVENTS = 500

EPILOG = """
\b
Examples:
  tidings demo
  tidings demo --kafka 127.0.0.1:9092      your own Kafka instead of the embedded broker
  tidings demo --platform klaviyo          a stand-in for Klaviyo instead of the inbox: the email is made of its fields

Everything runs on this machine, on free ports of 127.0.0.1, with tokens made for this run. Ctrl-C stops and removes all of it.
"""


@click.command(epilog=EPILOG)
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of the page [default: {DEFAULT_PORT}, or a free one].")
@click.option("--kafka", metavar="HOST:PORT", help="Use this Kafka, with topics of the demo's own, instead of the embedded broker.")
@click.option("--platform", type=click.Choice(list(PLATFORMS)), help="Show a stand-in for this e-mail platform instead of an inbox.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
def demo(port: int | None, kafka: str | None, platform: str | None, no_browser: bool) -> None:
    """See a click in a shop change an email within a second."""
    console = Console(highlight=False)
    asyncio.run(_until_stopped(_demo(Plan(kafka or "", port, platform or ""), console, open_page=not no_browser), console))
    console.print("  Stopped; nothing is left behind.")


async def _demo(plan: Plan, console: Console, open_page: bool) -> None:
    """Start the parts, each taken down again in reverse; then wait until one dies or the task is cancelled."""
    catalog = load_catalog()
    async with AsyncExitStack() as parts:
        directory = Path(parts.enter_context(TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True)))
        broker: EmbeddedBroker | None = None
        with _step(console, "Broker") as done:
            if not plan.kafka:
                broker = parts.enter_context(EmbeddedBroker())
            bootstrap_servers = broker.bootstrap_servers if broker else plan.kafka
            done(f"{'embedded, in memory' if broker else 'yours'}, {bootstrap_servers}")
        kafka = kafka_settings(plan, bootstrap_servers)
        with _step(console, "Topics") as done:
            if not broker:
                parts.push_async_callback(_delete_topics, kafka)
            findings = await create_topics(kafka)
            require_sound(findings)
            done(f"{len({f.topic for f in findings})}, of {kafka.partitions} partitions each")
        platform = PLATFORMS[plan.platform](key=plan.secret) if plan.platform else None
        server = DemoServer(secret=plan.secret, catalog=catalog, platform=platform)
        port = await _serve(parts, server, plan.port)
        target = inbox_target(f"http://127.0.0.1:{port}/inbox")
        if platform is not None:
            with _step(console, platform.title) as done:
                url = await parts.enter_async_context(platform.serve())
                target = platform_target(platform, url, SECRET_VARIABLE)
                done(f"a stand-in for it, {url}")
        with _step(console, "Worker", "joining its group takes some seconds") as done:
            toml = directory / "tidings.toml"
            toml.write_text(settings_toml(plan, kafka, directory / "data", target))
            worker = await start_worker(plan, toml, directory / "worker.log")
            parts.push_async_callback(stop_worker, worker)
            watch = Watch(worker, directory / "worker.log", broker)
            await watch.while_waiting_for(_answers(f"{plan.worker_url}/readyz"), _READY_SECONDS, "get ready")
            server.connect(plan.worker_url, plan.token)
            done(plan.worker_url)
        with _step(console, "Shop", "what it sells") as done:
            await watch.while_waiting_for(_fill(server), _LEARN_SECONDS, "take the shop's products")
            done(f"{len(catalog.products)} products in the catalog")
        with _step(console, "Shoppers", f"what {SHOPPERS} invented people looked at") as done:
            events = seed_events(catalog, time.time_ns() // 1_000_000)
            await watch.while_waiting_for(_teach(plan, server, events), _LEARN_SECONDS, "learn from the invented shoppers")
            done(f"{len(events):,} events of {SHOPPERS} invented people")
        _invite(console, f"http://127.0.0.1:{port}", platform.title if platform else "", open_page)
        await watch.until_a_part_dies()


async def _until_stopped(work: Awaitable[None], console: Console) -> None:
    """Ctrl-C and SIGTERM cancel the work once; its cleaning up is not interrupted by another."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            console.print("\n  Stopping.")
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise


async def _serve(parts: AsyncExitStack, server: DemoServer, port: int | None) -> int:
    """Bind the page's port; the default one may be taken by another demo, then any will do."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    parts.push_async_callback(runner.cleanup)
    for attempt in [port] if port else [DEFAULT_PORT, 0]:
        with suppress(OSError):
            await web.TCPSite(runner, "127.0.0.1", attempt).start()
            return int(runner.addresses[0][1])
    raise CommandError(f"port {port} is taken: choose another with --port")


async def _answers(url: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


async def _fill(server: DemoServer) -> None:
    try:
        await server.fill_shop()
    except RuntimeError as exc:
        raise CommandError(f"the shop's products were refused: {exc}") from exc


async def _teach(plan: Plan, server: DemoServer, events: list[dict[str, Any]]) -> None:
    """Send the invented shoppers' events, and wait until they are folded and the items have settled."""
    for start in range(0, len(events), _SEED_REQUEST_EVENTS):
        try:
            await server.send_events(events[start : start + _SEED_REQUEST_EVENTS])
        except RuntimeError as exc:
            raise CommandError(f"the invented shoppers' events were refused: {exc}") from exc
    server.seeded_events = len(events)
    visits_before = -1.0
    headers = {"Authorization": f"Bearer {plan.token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            async with session.get(f"{plan.worker_url}/metrics") as response:
                metrics = await response.text()
            visits = _metric(metrics, 'tidings_visits_total{outcome="applied"}')
            if _metric(metrics, 'tidings_events_total{outcome="applied"}') >= len(events) and visits == visits_before:
                return
            visits_before = visits
            await asyncio.sleep(0.3)


def _metric(exposition: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", exposition, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def _delete_topics(kafka: KafkaSettings) -> None:
    """A Kafka that was there before keeps nothing of this run; its names are this run's own."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    names = TopicNames.of(kafka)
    admin = AIOKafkaAdminClient(**kafka_client(kafka))
    with suppress(KafkaError, OSError, TimeoutError, BrokerError):
        await admin.start()
        try:
            await admin.delete_topics([
                names.events, names.visits, names.neighbours, names.updates, names.shares, names.products, names.dead_letters,
                *names.changelogs.values(),
            ])
        finally:
            await admin.close()


def _invite(console: Console, url: str, platform: str, open_page: bool) -> None:
    when = f"as soon as {platform} has the list" if platform else "within a second"
    lines = [
        f"\n  [bold]Tidings is ready: [link={url}]{url}[/link][/bold]\n",
        f"  Click a product in the shop: the email beside it is written anew {when}.",
        "  Then put it into the cart, look twice, let it sell out, become a new visitor; and look inside:",
        f"    {url}/worker/metrics         what the worker counts and measures",
        f"    {url}/worker/openapi.json    its HTTP interface",
        "  Ctrl-C stops everything.\n",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)
    on_a_desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if open_page and console.is_terminal and on_a_desktop:
        webbrowser.open(url)


@contextmanager
def _step(console: Console, name: str, meanwhile: str = "") -> Iterator[Callable[[str], None]]:
    """Shows that it goes on, then one line with what came of it and how long it took."""
    began = time.monotonic()
    result = ""

    def done(what: str) -> None:
        nonlocal result
        result = what

    try:
        with console.status(f"{name}: {meanwhile or 'starting'}"):
            yield done
    except TidingsError:
        console.print(f"  [red]✗[/red] {name}")
        raise
    console.print(f"  [green]✓[/green] {name:<9} {result}  [dim]{time.monotonic() - began:.1f} s[/dim]")
