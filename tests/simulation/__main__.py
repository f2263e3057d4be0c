"""Runs of the simulation from a seed on, side by side: `python -m tests.simulation --seed 1 --runs 1000`."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from time import perf_counter

from tests.simulation.flaws import Flaws
from tests.simulation.runs import Figures, first_that_finds, run_all

#: Runs that a process does before it is given others.
ROW = 50


def main() -> int:
    names = [field.name for field in fields(Flaws)]
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first run (1)")
    parser.add_argument("--runs", type=int, default=1, help="how many, each with the next seed (1)")
    parser.add_argument("--jobs", type=int, default=_cores(), help="processes (one for each core)")
    parser.add_argument("--flaw", metavar="NAME", choices=[*names, "each"], help="break this rule of a worker, or each in turn")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    if arguments.flaw == "each":
        return _find_each(names, seeds, arguments.jobs)
    return _run(seeds, Flaws(**{arguments.flaw: True}) if arguments.flaw else Flaws(), arguments.jobs)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(seeds: range, flaws: Flaws, jobs: int) -> int:
    rows = [seeds[first : first + ROW] for first in range(0, len(seeds), ROW)]
    began, figures = perf_counter(), Figures()
    with ProcessPoolExecutor(max(1, min(jobs, len(rows)))) as pool:
        try:
            for some in pool.map(_run_some, rows, [flaws] * len(rows)):
                figures.merge(some)
                if sys.stderr.isatty():
                    print(f"\r{figures.runs:,} runs, {figures.runs / (perf_counter() - began):.0f} a second", end="", file=sys.stderr)
        except Exception as exc:
            pool.shutdown(wait=False, cancel_futures=True)
            print(exc.__cause__ or "".join(traceback.format_exception(exc)), file=sys.stderr)  # as the run's own process saw it
            return 1
    seconds = perf_counter() - began
    faults = ", ".join(f"{count:,} {fault}" for fault, count in sorted(figures.faults.items()))
    print(f"\r{figures.runs:,} runs in {seconds:.1f} s ({figures.runs / seconds:.0f} a second), {figures.steps:,} steps")
    print(f"{figures.requests:,} requests to targets; faults: {faults}")
    print(f"every run came to the plain fold; digest of all runs {figures.digest:016x}")
    return 0


def _find_each(names: list[str], seeds: range, jobs: int) -> int:
    missed = 0
    with ProcessPoolExecutor(max(1, min(jobs, len(names)))) as pool:
        for name, seed in zip(names, pool.map(_find, names, [seeds] * len(names)), strict=True):
            missed += seed is None
            print(f"{name:40s} {'not found' if seed is None else f'found by run {seed}'}", flush=True)
    return int(missed > 0)


def _run_some(seeds: range, flaws: Flaws) -> Figures:
    _be_quiet()
    return run_all(seeds, flaws)


def _find(flaw: str, seeds: range) -> int | None:
    _be_quiet()
    return first_that_finds(flaw, seeds)


def _be_quiet() -> None:
    warnings.simplefilter("ignore")  # of tasks that never ended, since their process did not live to


if __name__ == "__main__":
    sys.exit(main())
