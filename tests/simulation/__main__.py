"""Runs of the simulation from a seed on, side by side: `python -m tests.simulation --seed 1 --runs 1000`."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

from tests.simulation.runs import Figures, run_all

#: Runs that a process does before it is given others.
ROW = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first run (1)")
    parser.add_argument("--runs", type=int, default=1, help="how many, each with the next seed (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    arguments = parser.parse_args()
    end = arguments.seed + arguments.runs
    rows = [range(first, min(end, first + ROW)) for first in range(arguments.seed, end, ROW)]
    began, figures = perf_counter(), Figures()
    with ProcessPoolExecutor(max(1, min(arguments.jobs, len(rows)))) as pool:
        try:
            for some in pool.map(_run_some, rows):
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
    print(f"every run came to the plain fold; digest of all logs {figures.digest:016x}")
    return 0


def _run_some(seeds: range) -> Figures:
    warnings.simplefilter("ignore")  # of tasks that never ended, since their process did not live to
    return run_all(seeds)


if __name__ == "__main__":
    sys.exit(main())
