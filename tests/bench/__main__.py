"""``python -m tests.bench``: measure, print the tables, write build/bench.json and build/bench.png.

What is measured is written after each step, so a run that is ended has not been for nothing. The most important comes first.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import strftime

from rich.console import Console

from app.errors import TidingsError
from tests.bench.harness import Cores, Harness
from tests.bench.plot import draw
from tests.bench.results import Results
from tests.bench.schedule import Schedule
from tests.bench.sizes import JOBS, QUICK, Sizes
from tests.bench.steps import Outcome, run_steps
from tests.bench.systems import SYSTEMS, System
from tests.bench.tables import print_results
from tests.brokers.apache_kafka import ROOT, ApacheKafka

_WIDTH = 140
DESCRIPTION = "Measure Tidings and its peers on one Apache Kafka: in turn, in pairs, each on a core of its own, each result checked."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=DESCRIPTION)
    parser.add_argument("--jobs", default=",".join(JOBS), help="comma-separated, of: %(default)s")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated, of: %(default)s")
    parser.add_argument("--pairs", type=int, default=1, help="rounds of the jobs that are compared in pairs (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=40.0, help="nothing is begun that would last longer (default %(default)s)")
    parser.add_argument("--load", help="of the capacity, for latency, comma-separated (default 0.5,0.8)")
    parser.add_argument("--capacity", type=float, default=0.0, help="in events a second, instead of what the worker keeps up with")
    parser.add_argument("--quick", action="store_true", help="small counts, one round: shows that it works, not how fast")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json", help="default build/bench.json")
    options = parser.parse_args()
    jobs, systems = options.jobs.split(","), options.systems.split(",")
    if unknown := [name for name in jobs if name not in JOBS] + [name for name in systems if name not in SYSTEMS]:
        parser.error(f"there is no {', '.join(unknown)}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)  # a log is as wide as the tables
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic that was just made has no leader for a moment
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, capacity=options.capacity or sizes.capacity)
    if options.load:
        sizes = replace(sizes, loads=[float(load) for load in options.load.split(",")])
    chosen = [SYSTEMS[name] for name in systems]
    if sizes.max_events:
        chosen = [replace(system, max_events=system.max_events and sizes.max_events) for system in chosen]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"ended; what was measured so far is in {options.output}"))  # no process is left
    rounds = 1 if options.quick else options.pairs
    try:
        results = asyncio.run(_measure(sizes, jobs, rounds, chosen, console, 60 * options.minutes, options.output))
    except TidingsError as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit(f"stopped; what was measured so far is in {options.output}")
    print_results(results, console)
    picture = options.output.with_suffix(".png")
    draw(results.as_json(), picture)
    console.print(f"written to {options.output}" + (f", drawn in {picture}" if picture.exists() else ""), soft_wrap=True)
    console.print(f"the README's table: {sys.executable} -m tests.bench.table --input {options.output}", soft_wrap=True)
    if results.outcome.not_begun:
        console.print(f"no time was left for: {', '.join(results.outcome.not_begun)} (--minutes)", soft_wrap=True)
    if failed := results.outcome.failed:
        sys.exit("\n".join(f"FAILED: {what}: {reason}" for what, reason in failed.items()))


async def _measure(
    sizes: Sizes, jobs: Sequence[str], rounds: int, systems: Sequence[System], console: Console, seconds: float, output: Path
) -> Results:
    cores = Cores.of_this_machine()
    cores.pin_this_process()

    def say(what: str) -> None:
        console.print(f"{strftime('%H:%M:%S')} {what}", soft_wrap=True, markup=False)

    if not cores.pinned:
        say("one core, or cores cannot be chosen here: system and broker share, and the figures mean little")
    directory = ROOT / "build" / f"bench-{os.getpid()}"
    directory.mkdir(parents=True)
    results = Results(cores)
    kept = True
    try:
        with ApacheKafka(directory / "kafka", heap="1g") as kafka:
            harness = Harness(kafka.bootstrap_servers, cores, directory, lambda: [kafka.pid()])
            schedule = Schedule(harness, sizes, results, jobs=jobs, rounds=rounds, systems=systems, say=say)
            for name, reason in results.left_out.items():
                say(f"{name} is left out: {reason}")
            steps = schedule.steps()
            minutes = sum(step.about_seconds for step in steps) / 60
            say(f"{len(steps)} steps, some {minutes:.0f} min on two quiet cores; results in {output}")

            def after_each(outcome: Outcome) -> None:
                results.outcome = outcome
                results.write(output)
                if outcome.failed and not kafka.nodes_running:
                    say("the broker has ended: it is started again over its data")
                    kafka.start()

            results.outcome = await run_steps(steps, seconds, say, after_each)
            results.write(output)
        kept = bool(results.outcome.failed)
        return results
    finally:
        if kept:
            say(f"the logs of the runs are in {directory}")
            shutil.rmtree(directory / "kafka", ignore_errors=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
