"""Reads under kills: an open loop of reads against three workers, of which one is killed again and again while events flow.

``python -m tests.e2e.reads_under_kills --seconds 300 --rate 300 --every 20`` does so on an Apache Kafka of its own, six partitions, with
a standby for each, under a supervisor that starts a killed worker again after 0.3 s. It prints who was killed when and was ready when,
how many reads were answered with 200 and how late, who served them, and how old what they told was. What the client does: readers.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import SESSION_SECONDS, fleet_on
from tests.e2e.processes import RESTART_SECONDS, Worker
from tests.e2e.readers import Read, Readers
from tests.e2e.shop import PATHS, PEOPLE, PRODUCTS, Shop, whole

#: As many as three workers can share equally.
PARTITIONS = 6
#: Of reads that must be answered with 200.
WANTED = 0.999
_LOOK_SECONDS = 0.25


@dataclass
class Kill:
    """Of a worker by name, in seconds since the reads began; ``ready_at`` None: not before the next kill or the end."""

    worker: str
    at: float
    ready_at: float | None = None

    def told(self, reads: Sequence[Read], until: float) -> str:
        """With what became of the reads from then on."""
        of_it = [read for read in reads if self.at <= read.at < until]
        failed, slow = sum(read.status != 200 for read in of_it), sum(read.seconds > 0.25 for read in of_it)
        by_standby = sum(read.served_by == "standby" for read in of_it)
        oldest = max((read.age_ms for read in of_it if read.age_ms is not None), default=0) / 1000
        ready = "not ready again in time" if self.ready_at is None else f"ready again after {self.ready_at - self.at:.1f} s"
        return (
            f"  {self.at:6.1f} s  worker {self.worker} killed, {ready}; of {len(of_it)} reads {failed} failed, {slow} took over 250 ms, "
            f"{by_standby} by a standby, the oldest {oldest:.1f} s old"
        )


class Killer:
    """Kills a worker every so many seconds, each once in turn, in an order drawn from a seed."""

    def __init__(self, workers: Sequence[Worker], every: float, seed: int) -> None:
        self.kills: list[Kill] = []
        self._workers = list(workers)
        self._every = every
        self._chance = random.Random(seed)

    async def run(self, seconds: float) -> None:
        """The first after half of the time between two."""
        began, due, turn = time.monotonic(), self._every / 2, list[Worker]()
        while due < seconds:
            await asyncio.sleep(began + due - time.monotonic())
            turn = turn or self._chance.sample(self._workers, len(self._workers))
            worker = turn.pop()
            kill = Kill(worker.name, time.monotonic() - began)
            worker.kill()
            self.kills.append(kill)
            due += self._every
            await self._until_ready(worker, kill, began, min(due, seconds))
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))

    async def _until_ready(self, worker: Worker, kill: Kill, began: float, until: float) -> None:
        await asyncio.sleep(_LOOK_SECONDS)
        while time.monotonic() - began < until - _LOOK_SECONDS:
            if (await worker.get("/readyz"))[0] == 200:
                kill.ready_at = time.monotonic() - began
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def measure(bootstrap_servers: str, directory: Path, options: argparse.Namespace) -> tuple[bool, list[Read]]:
    """One run; whether enough was answered, and the reads."""
    sections: dict[str, dict[str, int]] = {"worker": {"standby_replicas": options.standbys}, "kafka": {"partitions": PARTITIONS}}
    async with fleet_on(bootstrap_servers, directory, **sections) as fleet:
        workers = await fleet.start("a", "b", "c")
        shop = Shop(fleet, options.events)
        async with shop.open():
            await whole(fleet, *workers)
            loads = [os.getloadavg()[0]]
            readers = Readers([worker.url for worker in workers], PATHS, options.rate, fleet.token, options.seed)
            killer = Killer(workers, options.every, options.seed)
            before = shop.count
            async with readers.reading():
                watching = asyncio.create_task(_watch(loads))
                await killer.run(options.seconds)
                watching.cancel()
            events = (shop.count - before) / options.seconds
        print(
            f"{options.seconds:g} s, {options.rate:g} reads/s (Poisson, seed {options.seed}) of {PEOPLE} people and {PRODUCTS} products, "
            f"{events:.0f} events/s; {len(workers)} workers, {PARTITIONS} partitions, standby_replicas {options.standbys}, "
            f"session {SESSION_SECONDS} s, restarted after {RESTART_SECONDS} s; load average {min(loads):.1f} to {max(loads):.1f} "
            f"on {os.cpu_count()} cores"
        )
        ends = [kill.at for kill in killer.kills[1:]] + [options.seconds + 1]
        for kill, until in zip(killer.kills, ends, strict=True):
            print(kill.told(readers.reads, until))
        print(readers, flush=True)
        exits = {worker.name: worker.exits for worker in workers if worker.exits}
        if exits:
            print(f"workers that ended by themselves: {exits}")
        if options.exact:
            await fleet.exact(shop.count)
        return readers.share >= WANTED and not exits, readers.reads


async def _watch(loads: list[float]) -> None:
    while True:
        await asyncio.sleep(5)
        loads.append(os.getloadavg()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="of reading (default 300)")
    parser.add_argument("--rate", type=float, default=300, help="reads a second (default 300)")
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills (default 20)")
    parser.add_argument("--events", type=float, default=50, help="events a second (default 50)")
    parser.add_argument("--standbys", type=int, default=1, help="worker.standby_replicas (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals and the kills (default 1)")
    parser.add_argument("--exact", action="store_true", help="at the end, compare the tables with the plain fold")
    parser.add_argument("--raw", help="write each read as a line of JSON to this file")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tidings-reads-"))
    with ApacheKafka(directory / "kafka") as kafka:
        enough, reads = uvloop.run(measure(kafka.bootstrap_servers, directory / "fleet", options))
    if options.raw:
        Path(options.raw).write_text("".join(json.dumps(asdict(read)) + "\n" for read in reads))
    print(f"{WANTED:.1%} answered: {'yes' if enough else 'NO'}; logs are in {directory}")
    raise SystemExit(not enough)


if __name__ == "__main__":
    main()
