"""A fleet under test: workers under supervisors, an inbox, replays into it, and the comparison with the plain fold at the end."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka.errors import KafkaError

from app.delivery.outbox import MAX_FLIGHT_MS
from app.domain.catalog import NO_CATALOG
from app.domain.held_neighbours import HeldNeighbours
from app.domain.models import GlobalModels
from app.domain.recommendations import Recommendation
from app.domain.rules import Rules
from app.domain.slots import slots_of
from app.settings import Settings, load_settings
from app.streams.recommender import Recommender
from app.streams.topics import create_topics, require_sound
from tests.e2e.exactness import Verdict, compare_inbox, compare_published, compare_rankings, compare_tables
from tests.e2e.kafka_log import KafkaLog, Tables
from tests.e2e.processes import MAX_EXITS, InboxProcess, Worker, spawn, tail
from tests.e2e.waiting import POLL_SECONDS, until
from tidings.state.v1.profile_pb2 import Profile

ROOT = Path(__file__).resolve().parents[2]
#: 116,285 clicks of 24,385 people on 18,009 products, one month.
BOLCOM = ROOT / ".." / "shared" / "data" / "bolcom_toy" / "events.parquet"

PARTITIONS = 4
SESSION_SECONDS = 6
#: What a request to the inbox may take: a killed worker's in-flight marks hold its users back for this and 5 s more.
TARGET_TIMEOUT_SECONDS = 2
#: From nothing to serving, on a busy machine.
READY_SECONDS = 60
#: Nothing folded, ranked or delivered for so long is a failure; so is not being done after MAX_SETTLE_SECONDS, however much moves.
#: The mark of a worker whose clock was ahead holds its user back for as long as any request may take, from when another worker sees it.
STALL_SECONDS, MAX_SETTLE_SECONDS = MAX_FLIGHT_MS // 1000 + 20, 600
#: After the last event a share is on its topic within this.
SHARED_SECONDS = 15
#: The state must be at rest for this long; longer on the embedded broker, which does not tell exact ends.
REST_SECONDS, EMBEDDED_REST_SECONDS = 1.0, 2.5


#: What a replay that is told to finish may take to write what it has begun.
FINISH_SECONDS = 60
#: The exit code of a command that Ctrl-C ended.
_INTERRUPTED = 130


class Replay:
    """A `tidings replay` under way."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def check(self) -> None:
        """Raise AssertionError if it failed."""
        assert self._process.returncode in (None, 0, _INTERRUPTED), f"the replay failed\n{tail(self._log)}"

    async def finish(self) -> dict[str, Any]:
        """As ``done``, without what it has not sent yet."""
        if self.running:
            self._process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.done(), FINISH_SECONDS)

    async def done(self) -> dict[str, Any]:
        """Its summary. Raises AssertionError if it failed."""
        await self._process.wait()
        self.check()
        text = self._log.read_text()
        return json.loads(text[text.index("{") :])

    async def stop(self) -> None:
        if self.running:
            self._process.kill()
            await self._process.wait()


class Fleet:
    """Topics, group and secrets of its own on a broker that others may use too. Made by ``fleet_on``."""

    def __init__(self, settings_file: Path, settings: Settings, http: aiohttp.ClientSession, token: str) -> None:
        self.settings = settings
        self.settings_file = settings_file
        self.directory = settings_file.parent
        self.log = KafkaLog(settings.kafka)
        self.workers: list[Worker] = []
        self.inbox: InboxProcess
        self.token = token
        self._http = http
        self._replays: list[Replay] = []
        self._began = time.monotonic()

    @property
    def names(self) -> Any:
        return self.log.names

    def new_worker(
        self, name: str, arguments: Sequence[str] = ("-m", "app", "worker"), *, with_options: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Worker:
        """A worker that is not started. Port and data directory are its own, in the environment and, ``with_options``, as options too;
        ``environment`` is for it alone.
        """
        worker = Worker(name, arguments, self.directory, self._http, self.token, with_options=with_options, environment=environment)
        self.workers.append(worker)
        return worker

    async def start(self, *names: str) -> list[Worker]:
        """Start workers and wait until they share all partitions among them and those that run already."""
        workers = [self.new_worker(name) for name in names]
        for worker in workers:
            await worker.start()
        await self.shared_among(*self.running)
        return workers

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.running]

    async def shared_among(self, *workers: Worker, seconds: float = READY_SECONDS, each_has_some: bool = True) -> None:
        """Until these workers are ready and own every partition between them, each at least one (or not: four partitions may stay with
        two workers when a third comes).
        """

        async def is_so() -> bool:
            for worker in workers:
                await worker.is_ready()
            owned = [await worker.owned() for worker in workers]
            are_all = sorted(p for partitions in owned for p in partitions) == list(range(self.settings.kafka.partitions))
            return are_all and (all(owned) or not each_has_some)

        names = " and ".join(worker.name for worker in workers)
        await until(is_so, seconds, f"all partitions owned by {names}")

    async def replay(self, file: Path, **options: float | str) -> Replay:
        """Start a replay of a log, ``limit=20_000, rate=500`` being options of `tidings replay`."""
        log = self.directory / f"replay-{len(self._replays)}.log"
        arguments = ["-m", "app", "replay", str(file), "--settings", str(self.settings_file), "--json"]
        arguments += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        replay = Replay(await spawn(arguments, log), log)
        self._replays.append(replay)
        return replay

    async def applied(self) -> int:
        """Events folded, ranked and committed."""
        try:
            return sum(await self.log.committed(self.names.events))
        except (KafkaError, OSError):
            return 0  # the broker is away

    async def until_applied(self, count: int, seconds: float = STALL_SECONDS) -> None:
        """Until so many events are seen through."""

        async def is_so() -> bool:
            for worker in self.workers:
                assert len(worker.exits) <= MAX_EXITS, f"worker {worker.name} is in a crash loop: {worker.exits}"
            for replay in self._replays:
                replay.check()
            return await self.applied() >= count

        await until(is_so, seconds, f"{count} events applied")

    async def settled(self, events: int, stall_seconds: float = STALL_SECONDS, *, clocks_were_right: bool = True) -> None:
        """Until ``events`` records stand on the events topic, all that they cause is done, and nobody is due at the inbox.

        Raises AssertionError when nothing moves for ``stall_seconds``. Who was not reached waits as long as the retry schedule says; who
        waits for half an hour because of wrong clocks is left out.
        """
        rest = EMBEDDED_REST_SECONDS if self.settings.kafka.allow_unfenced else REST_SECONDS
        unfinished = partial(self._unfinished, events, clocks_were_right)
        last, since, stop = await unfinished(), time.monotonic(), time.monotonic() + MAX_SETTLE_SECONDS
        while last[0] or time.monotonic() - since < rest:
            await asyncio.sleep(POLL_SECONDS)
            seen = await unfinished()
            if seen != last or self.log.someone_waits(time.time_ns() // 1_000_000):
                last, since = seen, time.monotonic()
            if last[0] and (time.monotonic() - since > stall_seconds or time.monotonic() > stop):
                raise AssertionError(f"not settled, and nothing moved for {time.monotonic() - since:.0f} s: {last}")

    async def _unfinished(self, events: int, clocks_were_right: bool = True) -> list[Any]:
        """First what is not done yet, in words, empty when all is; then how far everything is."""
        try:
            return await self._what_is_unfinished(events, clocks_were_right)
        except (KafkaError, OSError) as exc:
            return [f"the broker does not answer: {exc!r}"]

    async def _what_is_unfinished(self, events: int, clocks_were_right: bool) -> list[Any]:
        log, progress = self.log, []
        for topic in (self.names.events, self.names.visits, self.names.neighbours):  # each causes the next
            committed, ends = await log.committed(topic), await log.ends(topic)
            progress.append(committed)
            if any(done < end for done, end in zip(committed, ends, strict=True)):
                return [f"{topic} is applied up to {committed} of {ends}", *progress]
        if sum(progress[0]) < events:
            return [f"{sum(progress[0])} of {events} events are applied", *progress]
        due = await log.due_users(clocks_were_right=clocks_were_right)
        return [f"{len(due)} users are due, {due[:3]} among them" if due else "", *progress]

    async def exact(self, events: int, *, clocks_were_right: bool = True) -> Verdict:
        """Wait until all is done, and compare with the plain fold. Raises AssertionError that names what differs."""
        await self.settled(events, clocks_were_right=clocks_were_right)
        taken = time.monotonic() - self._began
        tables = await self.log.tables()
        await self.log.read_on("events")
        await self.log.read_on("dead_letters")
        assert len(self.log.events) == events, f"{len(self.log.events)} records on the events topic, {events} expected"
        verdict = compare_tables(tables, self.log.events, self.log.dead_letters, self.settings.kafka.partitions)
        with suppress(AssertionError):  # the comparison says more
            await until(lambda: self._shares_are_published(tables), SHARED_SECONDS, "shares on their topic")
        compare_published(tables, self.log.published, with_shares=self._publishes_shares)
        verdict.updates = self.log.published.updates
        if not self.log.published.shares:
            verdict.lists_ranked_again = compare_rankings(tables, self._rank)
        stats = await self.inbox.stats()
        verdict.waiting_for_a_clock = compare_inbox(
            "inbox", tables.outbox, await self.inbox.bodies(), stats, clocks_were_right=clocks_were_right
        )
        verdict.users_at_inbox, verdict.deliveries, verdict.repeated_deliveries = stats["users"], stats["received"], stats["repeated"]
        verdict.exits, verdict.kills = sum(len(w.exits) for w in self.workers), sum(w.kills for w in self.workers)
        verdict.seconds = taken
        print(f"\nexact: {verdict}")
        return verdict

    @property
    def _publishes_shares(self) -> bool:
        """Or so seldom that no run sees it."""
        return self.settings.ranking.share_interval_seconds <= SHARED_SECONDS

    def _rank(self, profile: Profile, answers: HeldNeighbours) -> Sequence[Recommendation]:
        """As a worker does while nobody has published a share, in a shop that has told of no product."""
        recommender = Recommender(lambda: GlobalModels.of([]), NO_CATALOG, slots_of(self.settings), Rules.of(self.settings.rules))
        return recommender.rank(profile, answers, time.time_ns() // 1_000_000)

    async def _shares_are_published(self, tables: Tables) -> bool:
        await self.log.read_on("published")
        published = self.log.published.shares
        return not self._publishes_shares or published == {partition: share.event_count for partition, share in tables.shares.items()}

    def last_words(self) -> str:
        """The ends of all logs."""
        logs = [*(worker.log for worker in self.workers), self.inbox.log]
        return f"logs are in {self.directory}\n" + "\n".join(tail(log) for log in logs)


@asynccontextmanager
async def fleet_on(
    bootstrap_servers: str, directory: Path, *, is_embedded: bool = False, concurrency: int = 256,
    timeout_seconds: float = TARGET_TIMEOUT_SECONDS, targets: Sequence[Mapping[str, Any]] = (), **sections: Mapping[str, Any],
) -> AsyncIterator[Fleet]:
    """A fleet without workers yet, and an inbox that is up. ``sections`` override settings: ``worker={"standby_replicas": 1}``;
    ``concurrency`` and ``timeout_seconds`` are of the requests to the inbox; ``targets`` are further destinations, whose secrets may be the
    token or the secret of the fleet: ``{"secret": "file:secret"}`` is in its directory.

    An exception that leaves the block carries the ends of all logs as a note.
    """
    token, secret = secrets.token_urlsafe(24), "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=False))
        inbox = InboxProcess(directory, http, secret)
        to_inbox = {"url": inbox.url, "concurrency": concurrency, "timeout_seconds": timeout_seconds}
        settings_file = _write_settings(directory, bootstrap_servers, is_embedded, sections, token, secret, to_inbox, targets)
        settings = load_settings(settings_file)
        require_sound(await create_topics(settings.kafka))
        fleet = Fleet(settings_file, settings, http, token)
        fleet.inbox = inbox
        try:
            stack.push_async_callback(inbox.stop)
            await inbox.start()
            await until(inbox.is_up, READY_SECONDS, "an inbox that answers")
            stack.push_async_callback(fleet.log.stop)
            await fleet.log.start()
            yield fleet
        except BaseException as error:
            error.add_note(fleet.last_words())
            raise
        finally:
            for worker in fleet.workers:
                await worker.discard()
            for replay in fleet._replays:
                await replay.stop()


def _write_settings(
    directory: Path, bootstrap_servers: str, is_embedded: bool, sections: Mapping[str, Mapping[str, Any]], token: str, secret: str,
    to_inbox: Mapping[str, Any], targets: Sequence[Mapping[str, Any]],
) -> Path:
    """The fleet's tidings.toml. Time-outs are as short as Kafka allows, so that a take-over is seen within a test."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"e2e-{secrets.token_hex(4)}"
    (directory / "token").write_text(token)
    (directory / "secret").write_text(secret)
    settings: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap_servers": bootstrap_servers, "application_id": name, "topic_prefix": name, "partitions": PARTITIONS,
            "session_timeout_seconds": SESSION_SECONDS, "heartbeat_interval_seconds": 1,
            "rebalance_timeout_seconds": 6 if is_embedded else 10,
            "fetch_max_wait_ms": 20 if is_embedded else 100, "allow_unfenced": is_embedded,
        },
        "worker": {"block_cache_bytes": 32 * 1024**2},
        "ranking": {"share_interval_seconds": 1},
        "delivery": {"allow_networks": ["127.0.0.0/8"]},
    }
    for section, values in sections.items():
        settings.setdefault(section, {}).update(values)
    lines: list[str] = []
    for section, values in settings.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    lines += ["[[tokens]]", 'name = "e2e"', f'token = "file:{directory / "token"}"', 'scopes = ["ingest", "read", "operate"]']
    lines += ["[[targets]]", 'name = "inbox"', f'secret = "file:{directory / "secret"}"', "allow_http = true"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in to_inbox.items()]
    for target in targets:
        lines += ["[[targets]]", *(f"{key} = {_toml(value, directory)}" for key, value in target.items())]
    file = directory / "tidings.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _toml(value: Any, directory: Path) -> str:
    """A scalar, or a list of them; ``file:name`` is a file of the fleet's directory."""
    if isinstance(value, list):
        return f"[{', '.join(_toml(one, directory) for one in value)}]"
    if isinstance(value, str) and value.startswith("file:") and "/" not in value:
        value = f"file:{directory / value.removeprefix('file:')}"
    return json.dumps(value)
