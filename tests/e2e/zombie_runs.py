"""Zombie runs: workers are paused past their session while another takes over, and then go on as if nothing had happened.

``python -m tests.e2e.zombie_runs --seeds 10`` makes ten runs on an Apache Kafka of its own and prints what each compared. In each round
each of the two workers is paused once for three session time-outs, and after that someone for a random time, above or below the
time-out; the seed decides who, when and for how long. ``--rounds 4 --kills`` makes a run of 116,285 events, with more than 50,000
deliveries, and kills a worker after each pause.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.exactness import Verdict
from tests.e2e.fleet import BOLCOM, SESSION_SECONDS, fleet_on
from tests.e2e.invented_log import write_invented_log

#: Of one round.
EVENTS, EVENTS_PER_SECOND = 32_000, 400
LONG_PAUSE_SECONDS = 3 * SESSION_SECONDS
#: In BOLCOM.
MONTH_EVENTS = 116_285


@dataclass(frozen=True)
class Pause:
    """Who is paused (0 or 1), for how long, and how long both work before."""

    worker: int
    work_seconds: float
    pause_seconds: float


def plan(seed: int) -> list[Pause]:
    """Four pauses: a long one of each worker, and between them and after them a random one."""
    chance = random.Random(seed)
    first = chance.randrange(2)
    pauses = [Pause(first, chance.uniform(2, 5), LONG_PAUSE_SECONDS)]
    pauses.append(Pause(chance.randrange(2), chance.uniform(0, 4), chance.uniform(2, 10)))
    pauses.append(Pause(1 - first, chance.uniform(2, 5), LONG_PAUSE_SECONDS))
    pauses.append(Pause(chance.randrange(2), chance.uniform(0, 4), chance.uniform(2, 10)))
    return pauses


async def zombie_run(bootstrap_servers: str, directory: Path, seed: int, *, rounds: int = 1, kills: bool = False) -> Verdict:
    """One run. Raises AssertionError when it does not end in the tables of a plain fold, or the inbox in the last lists."""
    chance = random.Random(-seed)
    events = min(EVENTS * rounds, MONTH_EVENTS) if BOLCOM.exists() else EVENTS * rounds
    async with fleet_on(bootstrap_servers, directory) as fleet:
        workers = await fleet.start("a", "b")
        log = BOLCOM if BOLCOM.exists() else write_invented_log(directory / "invented.jsonl", events)
        replay = await fleet.replay(log, limit=events, rate=EVENTS_PER_SECOND)
        await fleet.until_applied(1)
        for pause in [pause for round_ in range(rounds) for pause in plan(seed + 1000 * round_)]:
            paused, other = workers[pause.worker], workers[1 - pause.worker]
            await asyncio.sleep(pause.work_seconds)
            paused.pause()
            await asyncio.sleep(pause.pause_seconds)
            if pause.pause_seconds == LONG_PAUSE_SECONDS:
                await fleet.shared_among(other)  # it owns everything now, and the paused one does not know
            paused.go_on()
            if pause.pause_seconds == LONG_PAUSE_SECONDS:
                await fleet.shared_among(*workers)
            if kills:
                workers[chance.randrange(2)].kill()
                await fleet.shared_among(*workers)
        await replay.done()
        verdict = await fleet.exact(events)
        assert (verdict.applied, verdict.duplicates, verdict.dead_letters) == (events, 0, 0)
        return verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="runs (default 10)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--rounds", type=int, default=1, help=f"of {EVENTS:,} events in a run (default 1)")
    parser.add_argument("--kills", action="store_true", help="also kill a worker after each pause")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tidings-zombies-"))
    exact = 0
    with ApacheKafka(directory / "kafka") as kafka:
        for seed in range(options.first, options.first + options.seeds):
            run = zombie_run(kafka.bootstrap_servers, directory / str(seed), seed, rounds=options.rounds, kills=options.kills)
            try:
                print(f"seed {seed}: {asyncio.run(run)}", flush=True)
                exact += 1
            except AssertionError as error:
                print(f"seed {seed}: {error}\n" + "\n".join(getattr(error, "__notes__", [])), flush=True)
    print(f"{exact} of {options.seeds} runs exact; logs are in {directory}")
    raise SystemExit(exact != options.seeds)


if __name__ == "__main__":
    main()
