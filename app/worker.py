"""The composition root: settings in, one running worker out.

``run_worker(settings)`` is what ``tidings worker`` calls. ``faust -A app.worker worker`` finds ``app`` here, which is built from the
settings file and the environment when it is asked for, not at import.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import faust
import uvloop
from faust.app.base import BootStrategy
from mode import Service

from app.domain.compiled import extensions_info
from app.engine.data_directory import claim_data_directory
from app.engine.progress import leader_answers
from app.engine.watchdog import Watchdog
from app.errors import TidingsError
from app.settings import Settings, load_settings
from app.streams.publisher import Publisher
from app.streams.topics import create_topics, require_sound
from app.streams.topology import Topology, build
from app.web.server import WebServer, build_web

logger = logging.getLogger("tidings")

#: The exit code of a worker that stopped itself: its supervisor should start it again.
EXIT_FAILED = 70
#: From SIGTERM to the end, below the 30 s that orchestrators grant. What is not finished then, a replay does.
STOP_WITHIN_SECONDS = 25.0


def run_worker(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT, or until it must stop; then the process exits with EXIT_FAILED.

    Raises TidingsError when it cannot start: the broker does not answer, or topics or the data directory do not fit the settings.
    """
    _configure_logging()
    claim_data_directory(settings.worker.data_dir, settings.kafka.application_id, settings.kafka.partitions)
    findings = asyncio.run(create_topics(settings.kafka))
    require_sound(findings)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    topology = _compose(settings)
    look_for_cycles_seldom()
    _Worker(topology.app, loop=loop, override_logging=False, redirect_stdouts=False, daemon=True).execute_from_commandline()


def look_for_cycles_seldom() -> None:
    """What is loaded stays; and a batch makes thousands of objects that reference counting alone takes away again. The oldest generation is
    what the tables keep in memory: to look through it all takes a tenth of a second, and finds next to nothing.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 500)


class _Worker(faust.Worker):
    """Faust's worker without its banner and spinner; logging is ours."""

    def on_init_dependencies(self) -> Iterable[Any]:
        self.spinner = None
        return super().on_init_dependencies()

    def _setup_spinner_handler(self, *_: Any) -> None:
        """It would set the root logger to DEBUG."""


class _Surroundings(Service):
    """What runs beside the agents: the HTTP server, the deliverer, the global models. Up before the group is joined, so that health can
    be asked.
    """

    def __init__(
        self, topology: Topology, web: WebServer, publishers: Sequence[Publisher], watchdog: Watchdog | None, **kwargs: Any
    ) -> None:
        self._topology = topology
        self._watchdog = watchdog
        self._web = web
        self._publishers = publishers
        self._running: list[asyncio.Task[None]] = []
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        await self._web.start()
        await self._topology.deliverer.start()
        self._running = [asyncio.ensure_future(self._guarded(run)) for run in self._topology.background]
        self._running.append(asyncio.ensure_future(self._announce()))
        if self._watchdog is not None:
            self._running.append(asyncio.ensure_future(self._guarded(self._watchdog.run)))
        # Whoever ranks by half a catalog tells people that the rest is not sold: the group is joined when the copy is complete.
        await self._topology.catalog.caught_up.wait()

    async def _guarded(self, run: Any) -> None:
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            self._topology.app.fail(exc)

    async def _announce(self) -> None:
        """Say once when it serves, and where to look."""
        await self._topology.app.tables.recovery.completed.wait()
        url = self._web.url
        logger.info("ready: %s/readyz says how it is, %s/metrics what it does, %s/openapi.json what may be asked", url, url, url)
        logger.info("%s", extensions_info())

    async def on_stop(self) -> None:
        for task in self._running:
            task.cancel()
        await self._topology.deliverer.stop()
        await self._web.stop()
        await asyncio.gather(*(publisher.stop() for publisher in self._publishers))


def _compose(settings: Settings) -> Topology:
    settings = _with_real_port(settings)
    advertised_url = settings.http.advertised_url or f"http://{settings.http.host}:{settings.http.port}"
    topology = build(settings, advertised_url=advertised_url, fail=_fail)
    events, products = Publisher.of_events(settings), Publisher.of_products(settings)
    web = WebServer.of(build_web(topology.views, events, settings, products=products, catalog=topology.catalog), settings)

    class Boot(BootStrategy):
        def web_server(self) -> Iterable[Any]:
            return [_Surroundings(topology, web, [events, products], _watchdog_of(topology, settings))]

    topology.app.boot_strategy = Boot(topology.app)
    topology.app.before_stop.insert(0, _end_in_time)
    return topology


def _watchdog_of(topology: Topology, settings: Settings) -> Watchdog | None:
    if not settings.worker.watchdog_seconds:
        return None
    return Watchdog(
        settings.worker.watchdog_seconds,
        topology.works,
        _fail,
        broker_answers=lambda place: leader_answers(topology.app.reader_client, place),
        leave=lambda: os._exit(EXIT_FAILED),
    )


def _with_real_port(settings: Settings) -> Settings:
    """Port 0 becomes a free one now, since the group is told the address before the server listens."""
    if settings.http.port:
        return settings
    with socket.socket() as probe:
        probe.bind((settings.http.host, 0))
        port = probe.getsockname()[1]
    return settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})


async def _end_in_time() -> None:
    """Faust waits for Kafka without bound when it stops; this does not."""
    deadline = threading.Timer(STOP_WITHIN_SECONDS, os._exit, [EXIT_FAILED])
    deadline.daemon = True
    deadline.start()


def _fail(exc: BaseException) -> None:
    """Stop at once: going on could lose or double events, and a replay puts right whatever is unfinished."""
    explanation = str(exc).rstrip(".") if isinstance(exc, TidingsError) else repr(exc)
    logger.critical(
        "stopped: %s. The supervisor should start this worker again; the log is replayed.",
        explanation,
        exc_info=None if isinstance(exc, TidingsError) else exc,
    )
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def _configure_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Every service of Faust's says when it starts and stops; what a worker does is said once, by "generation" and "ready".
    logging.getLogger().handlers[0].addFilter(lambda record: record.levelno > logging.INFO or not record.getMessage().startswith("[^"))
    for noisy in ("faust", "mode", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # One line per heartbeat problem is enough; the engine says what it does about it.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """``app``: the Faust app for Faust's own command line, composed from TIDINGS_SETTINGS or tidings.toml."""
    if name != "app":
        raise AttributeError(name)
    _configure_logging()
    settings = load_settings()
    claim_data_directory(settings.worker.data_dir, settings.kafka.application_id, settings.kafka.partitions)
    require_sound(asyncio.run(create_topics(settings.kafka)))
    asyncio.set_event_loop(uvloop.new_event_loop())
    globals()["app"] = _compose(settings).app
    return globals()["app"]
