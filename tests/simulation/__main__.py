"""Runs of the simulation from a seed on: `python -m tests.simulation --seed 1 --runs 1000`."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from time import perf_counter

from tests.simulation.runs import Figures, run_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first run (1)")
    parser.add_argument("--runs", type=int, default=1, help="how many, each with the next seed (1)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of tasks that never ended, since their process did not live to
    began = perf_counter()

    def tell(figures: Figures) -> None:
        if sys.stderr.isatty():
            print(f"\r{figures.runs:,} runs, {figures.runs / (perf_counter() - began):.0f} a second", end="", file=sys.stderr, flush=True)

    try:
        figures = run_all(range(arguments.seed, arguments.seed + arguments.runs), tell)
    except Exception:
        traceback.print_exc()
        return 1
    seconds = perf_counter() - began
    faults = ", ".join(f"{count:,} {fault}" for fault, count in sorted(figures.faults.items()))
    print(f"\r{figures.runs:,} runs in {seconds:.1f} s ({figures.runs / seconds:.0f} a second), {figures.steps:,} steps")
    print(f"{figures.requests:,} requests to targets; faults: {faults}")
    print(f"every run came to the plain fold; digest of all logs {figures.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
