"""``python -m tests.e2e.chaos --seed 7 --runs 3``: chaos runs with the seeds 7, 8 and 9, each on three Apache Kafka brokers of its own.

A run prints what was done to whom and when, and its figures; a failed one also the ends of all logs, and its files stay. The same seed
does the same things at the same seconds. ``--only KILL,CLOCK`` leaves only these faults; ``--plan`` prints schedules and runs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path

from app.errors import TidingsError
from tests.e2e.chaos.run import Plan, chaos_run
from tests.e2e.chaos.schedule import Kind
from tests.e2e.chaos.timeline import Report


def _kinds(text: str) -> tuple[Kind, ...]:
    try:
        return tuple(Kind[name.strip()] for name in text.split(","))
    except KeyError as exc:
        raise argparse.ArgumentTypeError(f"{exc} is none of {', '.join(Kind.__members__)}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next has the next (default 1)")
    parser.add_argument("--runs", type=int, default=1, help="(default 1)")
    parser.add_argument("--seconds", type=float, default=60, help="in which faults begin (default 60)")
    parser.add_argument("--rate", type=int, default=300, help="events a second (default 300)")
    parser.add_argument("--only", type=_kinds, default=tuple(Kind), metavar="KINDS", help=f"of {', '.join(Kind.__members__)}")
    parser.add_argument("--short", action="store_true", help="the four faults that CI has")
    parser.add_argument("--plan", action="store_true", help="print the schedules only")
    parser.add_argument("--keep", action="store_true", help="keep the files of runs that ended well, too")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    plans = [Plan.short(seed) if options.short else Plan(seed, options.seconds, options.rate, options.only) for seed in seeds]
    if options.plan:
        for plan in plans:
            print(f"seed {plan.seed}", *(f"{step.at_seconds:7.1f} s  {step}" for step in plan.steps), sep="\n")
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what the bystander's own clients say of stopped brokers is no news
    directory = Path(tempfile.mkdtemp(prefix="tidings-chaos-"))
    totals: Counter[str] = Counter()
    try:
        exact = sum(_run(plan, directory / str(plan.seed), totals, keep=options.keep) for plan in plans)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(f"stopped; files are in {directory}") from None
    figures = ", ".join(f"{name} {round(value, 1):,}" for name, value in totals.items())
    print(f"{exact} of {len(plans)} runs exact. In these: {figures or 'nothing'}")
    if exact == len(plans) and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"files are in {directory}")
    raise SystemExit(exact != len(plans))


def _run(plan: Plan, directory: Path, totals: Counter[str], *, keep: bool) -> bool:
    """Whether it ended well; its figures are added to ``totals``."""
    print(f"\n=== seed {plan.seed}: {plan}", flush=True)
    try:
        report = asyncio.run(_interruptible(directory, plan))
    except (AssertionError, OSError, TidingsError) as error:
        print(f"seed {plan.seed} FAILED: {error}\n" + "\n".join(getattr(error, "__notes__", [])), flush=True)
        return False
    print(f"{report.timeline}\n{report}", flush=True)
    totals.update(report.figures())
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)
    return True


async def _interruptible(directory: Path, plan: Plan) -> Report:
    """Ctrl-C and SIGTERM stop it in good order, in the background of a script too: brokers are ended and disks unmounted."""
    task = asyncio.ensure_future(chaos_run(directory, plan))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


if __name__ == "__main__":
    main()
