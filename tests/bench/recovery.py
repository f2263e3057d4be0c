"""``python -m tests.bench.recovery --users 1000000``: what a worker's state takes on disk and in memory, and how soon it is back.

One worker with all partitions on an Apache Kafka of its own, no targets. It works through the events; is killed, loses its directory, and
comes back from the changelogs alone (cold); is killed at work and at rest, and comes back to its directory (warm). What it answers for a
sample of users must be the same each time. ``--times 50`` makes fifty users of each before the cold recovery, without their events.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from app.cli.embedded_broker import free_port
from app.engine.held_memory import resident_bytes
from app.settings import KafkaSettings
from app.streams.publisher import partition_of
from app.streams.topics import create_topics
from tests.bench.broker import fill, read_back
from tests.bench.harness import BenchError
from tests.bench.worker_settings import ENVIRONMENT, as_toml, worker_settings
from tests.bench.workload import Record, ShopEvents
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.kafka_log import KafkaLog

PARTITIONS = 4
SESSION_SECONDS = 6
#: As many users' profiles are held against what they were.
SAMPLE = 200
#: Of all events, those that come while a worker is killed.
SHARE_AT_THE_KILL = 0.02
LOOK_SECONDS = 0.5
#: Before sizes are taken: what a start goes through (the outbox, compaction) is behind it then.
QUIET_SECONDS = 5.0
#: Nothing takes longer; a million users' events take ten minutes.
MAX_SECONDS = 3_600.0
_RECOVERED = re.compile(r"generation \d+: .*recovered in ([0-9.]+) s from (\d+) changelog records")


@dataclass(frozen=True)
class Return:
    """How a worker came back. ``ready_seconds`` is from its start to a 200 of /readyz: Python, the group's wait for who was killed, all."""

    ready_seconds: float
    recovery_seconds: float
    records_read: int
    rss_bytes: int


class MeasuredWorker:
    """``tidings worker`` as a child."""

    def __init__(
        self, directory: Path, settings: dict[str, Any], port: int, http: aiohttp.ClientSession, pin: Callable[[], None] | None = None
    ) -> None:
        """``pin``: what the child does first (Cores.for_system)."""
        self.data_dir = Path(settings["worker"]["data_dir"])
        name = settings["kafka"]["application_id"]
        self._log = directory / f"{name}.log"
        self._file = directory / f"{name}.toml"
        self._file.write_text(as_toml(settings))
        self._url = f"http://127.0.0.1:{port}"
        self._http = http
        self._pin = pin
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Return:
        """Start it and wait until it serves."""
        began, known = time.monotonic(), self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app", "worker", "--settings", str(self._file),
                env={**os.environ, **ENVIRONMENT}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self._pin,
            )  # fmt: skip
        while (await self._status("/readyz")) != 200:
            if self._process.returncode is not None or time.monotonic() - began > MAX_SECONDS:
                raise BenchError(f"the worker is not ready:\n{self._log.read_text()[-3000:]}")
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        said = _RECOVERED.findall(self._log.read_text()[known:])
        recovery_seconds, records = said[-1]
        return Return(seconds, float(recovery_seconds), int(records), self.rss_bytes())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    def rss_bytes(self) -> int:
        assert self._process is not None
        return resident_bytes(self._process.pid)

    def disk_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.data_dir.rglob("*") if file.is_file())

    async def profiles(self, users: list[str]) -> dict[str, Any]:
        """What it answers for users."""
        found, headers = {}, {"Authorization": "Bearer " + ENVIRONMENT["BENCH_TOKEN"]}
        for user in users:
            async with self._http.get(f"{self._url}/v1/users/{user}", headers=headers) as answer:
                found[user] = answer.status, await answer.json(content_type=None)
        return found

    async def _status(self, path: str) -> int:
        try:
            async with self._http.get(self._url + path) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0


async def measure(users: int, events_per_user: float, times: int, directory: Path) -> None:
    with ApacheKafka(directory / "kafka") as kafka:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), trust_env=False) as http:
            await _measure(kafka.bootstrap_servers, users, events_per_user, times, directory, http)


async def _measure(
    bootstrap_servers: str, users: int, events_per_user: float, times: int, directory: Path, http: aiohttp.ClientSession
) -> None:
    name, port = f"recovery-{secrets.token_hex(3)}", free_port()
    settings = worker_settings(
        name=name, bootstrap_servers=bootstrap_servers, partitions=PARTITIONS, data_dir=directory / "data", port=port
    )
    settings["kafka"] |= {"session_timeout_seconds": SESSION_SECONDS, "heartbeat_interval_seconds": 1}
    kafka_settings = KafkaSettings.model_validate(settings["kafka"])
    await create_topics(kafka_settings)
    worker, log = MeasuredWorker(directory, settings, port, http), KafkaLog(kafka_settings)
    await log.start()
    try:
        empty = await worker.start()
        await asyncio.sleep(2)
        empty_rss = worker.rss_bytes()
        print(f"empty worker: ready in {empty.ready_seconds:.1f} s, {empty_rss / 1e6:.0f} MB resident", flush=True)

        first = int(users * events_per_user * (1 - SHARE_AT_THE_KILL))
        rest = int(users * events_per_user) - first
        seen: set[bytes] = set()
        began = time.monotonic()
        await fill(bootstrap_servers, log.names.events, _noted(ShopEvents(users, first, PARTITIONS), seen))
        print(f"{first} events of {len(seen)} users written in {time.monotonic() - began:.0f} s, while the worker works", flush=True)
        await _settled(log)
        taken, count = time.monotonic() - began, len(seen)
        print(f"all applied, ranked and committed after {taken:.0f} s ({first / taken:.0f} events/s with the writing)", flush=True)
        _print_size("at work", worker, count, empty_rss)
        sample = [key.decode() for key in sorted(seen)[:: max(1, count // SAMPLE)]]
        before = await worker.profiles(sample)

        await worker.kill()
        if times > 1:
            began = time.monotonic()
            await _multiply(bootstrap_servers, log.names.changelogs, times)
            print(f"each user's state written under {times - 1} more names in {time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(worker.data_dir)
        _print_return("cold recovery, the data directory gone", await worker.start())
        _compare(before, await worker.profiles(sample))
        await asyncio.sleep(QUIET_SECONDS)
        _print_size("after the cold recovery", worker, count * times, empty_rss)

        await fill(bootstrap_servers, log.names.events, _noted(ShopEvents(users, rest, PARTITIONS, first=first), seen))
        await worker.kill()
        _print_return("warm restart after SIGKILL at work", await worker.start())
        await _settled(log)
        before = await worker.profiles(sample)
        await worker.kill()
        _print_return("warm restart after SIGKILL at rest", await worker.start())
        _compare(before, await worker.profiles(sample))
        await asyncio.sleep(QUIET_SECONDS)
        _print_size("after the warm restart", worker, count * times, empty_rss)
        print(f"{len(sample)} users answered for as before", flush=True)
    finally:
        await worker.kill()
        await log.stop()


def _compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    if wrong := [user for user, answer in before.items() if after[user] != answer]:
        raise BenchError(f"{len(wrong)} of {len(before)} users are not what they were, {wrong[0]} for one")


async def _multiply(bootstrap_servers: str, changelogs: Mapping[str, str], times: int) -> None:
    """Write what the tables keyed by user hold under further names too, where these belong: a state of many users without their events."""
    for table in ("profiles", "neighbours", "outbox"):
        held = await read_back(bootstrap_servers, changelogs[table])
        names = ((b"%s.%d" % (key, n), value) for n in range(1, times) for key, value in held.items())
        await fill(bootstrap_servers, changelogs[table], (Record(partition_of(key, PARTITIONS), key, value) for key, value in names))


def _noted(events: ShopEvents, seen: set[bytes]) -> Iterator[Record]:
    for record in events.records():
        seen.add(record.key)
        yield record


async def _settled(log: KafkaLog) -> None:
    """All that stands on the topics is applied, and all that follows from it is done."""
    deadline = time.monotonic() + MAX_SECONDS
    while True:
        done = True
        for topic in (log.names.events, log.names.visits, log.names.neighbours):  # each causes the next
            done = done and all(offset >= end for offset, end in zip(await log.committed(topic), await log.ends(topic), strict=True))
        if done:
            return
        if time.monotonic() > deadline:
            raise BenchError("the worker does not get through the events")
        await asyncio.sleep(LOOK_SECONDS)


def _print_return(what: str, back: Return) -> None:
    print(
        f"{what}: {back.records_read} changelog records read, recovered in {back.recovery_seconds:.1f} s, "
        f"ready {back.ready_seconds:.1f} s after its start, {back.rss_bytes / 1e6:.0f} MB resident",
        flush=True,
    )


def _print_size(when: str, worker: MeasuredWorker, users: int, empty_rss: int) -> None:
    disk, rss = worker.disk_bytes(), worker.rss_bytes()
    print(
        f"{when}: {disk / 1e6:.0f} MB on disk, {disk / users:.0f} bytes a user; {rss / 1e6:.0f} MB resident, "
        f"{(rss - empty_rss) / users:.0f} bytes a user more than empty",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recovery", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events-per-user", type=float, default=2.0)
    parser.add_argument("--times", type=int, default=1, help="write each user's state under so many names (default 1)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the broker is a child, and is ended on the way out
    with tempfile.TemporaryDirectory(prefix="tidings-recovery-") as directory:
        try:
            asyncio.run(measure(options.users, options.events_per_user, options.times, Path(directory)))
        except BenchError as exc:
            sys.exit(str(exc))


if __name__ == "__main__":
    main()
