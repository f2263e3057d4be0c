"""The steps of one run of the benchmark, in the order of their importance, and what becomes of what they measure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

from tests.bench.bars import BARE, BARS
from tests.bench.catalog import measure_catalog
from tests.bench.deliveries import measure_deliveries
from tests.bench.growth import measure_growth
from tests.bench.harness import PARTITIONS, Harness, Measured
from tests.bench.latency import measure_latencies
from tests.bench.path import JOBS as PATH_JOBS
from tests.bench.path import PathRuns
from tests.bench.peer_recovery import PeerRecovery
from tests.bench.ranking import measure_ranking, why_not
from tests.bench.results import Results
from tests.bench.sizes import Sizes
from tests.bench.steps import Step
from tests.bench.systems import NAIVE_FAUST, TIDINGS, System
from tests.bench.systems.tidings_path import Stage
from tests.bench.two_workers import measure_two_workers
from tests.bench.workload import BareEvents

Say = Callable[[str], None]
#: On two quiet cores.
_PATH_SECONDS = {"profile_fold": 25.0, "full_path": 50.0}
_GROWTH_SECONDS, _LATENCY_SECONDS, _TWO_WORKERS_SECONDS, _STAGE_SECONDS = 420.0, 240.0, 150.0, 30.0
_RECOVERY_SECONDS, _DELIVERIES_SECONDS, _CATALOG_SECONDS, _RANKING_SECONDS = 75.0, 300.0, 240.0, 30.0


class Schedule:
    """Steps that fill ``results``. ``rounds`` of the jobs that are compared in pairs; all else is measured once."""

    def __init__(
        self, harness: Harness, sizes: Sizes, results: Results, *, jobs: Sequence[str], rounds: int, systems: Sequence[System], say: Say
    ) -> None:
        self._harness = harness
        self._sizes = sizes
        self._results = results
        self._jobs = jobs
        self._rounds = rounds
        self._say = say
        self._path = PathRuns(harness, *sizes.path)
        results.left_out = {system.name: reason for system in systems if (reason := system.why_not())}
        self._systems = [system for system in systems if system.name not in results.left_out]
        self._filled: set[str] = set()

    def steps(self) -> list[Step]:
        (few, *more) = self._sizes.bare
        steps = list(self._round(1, *few))
        steps += self._singles({"latency": self._latency, "two_workers": self._two_workers, "growth": self._growth})
        for users, events in more if BARE in self._jobs else ():
            steps += self._bare_turns(1, users, events, [one for one in self._systems if _is_compared(one, users)])
        for number in range(2, self._rounds + 1):
            steps += self._round(number, *few)
        steps += self._singles({
            "stages": self._stages, "recovery": self._recovery, "deliveries": self._deliveries, "catalog": self._catalog,
            "ranking": self._ranking,
        })  # fmt: skip
        return steps

    def _singles(self, measurements: Mapping[str, Callable[[], Iterator[Step]]]) -> list[Step]:
        return [step for job, measurement in measurements.items() if job in self._jobs for step in measurement()]

    def _round(self, number: int, users: int, events: int) -> Iterator[Step]:
        """The bare job in all systems, and our own jobs with naive Faust's bare one on both sides. A round that is not the first is for
        systems that a bar is set for.
        """
        naive = [system for system in self._systems if system.name == NAIVE_FAUST.name] if BARE in self._jobs else []
        if BARE in self._jobs:
            again = [system for system in self._systems if number == 1 or _is_compared(system, users)]
            yield from self._bare_turns(number, users, events, again)
        for job, stage in PATH_JOBS.items():
            if job in self._jobs:
                what = f"round {number}: {job}, {self._path.users:,} users"
                yield Step(what, _PATH_SECONDS[job], partial(self._keep, partial(self._path.run, job, stage)))
                yield from (self._bare(number, system, users, events) for system in naive)

    def _bare_turns(self, number: int, users: int, events: int, systems: Sequence[System]) -> Iterator[Step]:
        """A run of ours right before and right after every run of another system, so that what it is held against was measured on the
        machine as it was then.
        """
        named = {system.name: system for system in systems}
        ours, naive = named.pop(TIDINGS.name, None), named.pop(NAIVE_FAUST.name, None)
        turns = [naive, ours, *(turn for other in named.values() for turn in (other, ours)), naive if ours else None]
        yield from (self._bare(number, system, users, events) for system in turns if system is not None)

    def _bare(self, number: int, system: System, users: int, events: int) -> Step:
        events = min(events, self._sizes.bare_slow_events) if system.slow else events
        workload, topic = BareEvents(users, events, PARTITIONS), f"user-events-{users}-{events}"

        async def run() -> Measured:
            if topic not in self._filled:
                self._say(f"filling a topic: {events:,} events of {users:,} users")
                await self._harness.prepare(topic, workload)
                self._filled.add(topic)
            return await self._harness.run_bare(system, BARE, topic, workload, users)

        return Step(f"round {number}: {BARE}, {users:,} users, {system.name}", system.about_seconds, partial(self._keep, run))

    async def _keep(self, run: Callable[[], Awaitable[Measured]]) -> None:
        self._results.runs.append(made := await run())
        self._say(_figures(made))

    def _growth(self) -> Iterator[Step]:
        run = partial(measure_growth, self._harness, self._sizes.growth, self._say, self._results.growth)
        yield Step("growth: cost per event by users", _GROWTH_SECONDS, run)

    def _latency(self) -> Iterator[Step]:
        sizes, note = self._sizes, self._results.latency.append
        run = partial(measure_latencies, self._harness, sizes.loads, sizes.capacity, sizes.plan, self._say, note)
        yield Step("latency", _LATENCY_SECONDS, run)

    def _two_workers(self) -> Iterator[Step]:
        async def run() -> None:
            self._results.two_workers = await measure_two_workers(self._harness, self._sizes.two_workers, self._say)

        yield Step("two workers against one", _TWO_WORKERS_SECONDS, run)

    def _stages(self) -> Iterator[Step]:
        async def run(stage: Stage) -> None:
            made = await self._path.run("stage", stage)
            self._results.stages.setdefault(stage, []).append(made)
            self._say(_figures(made))

        for turn in range(self._sizes.stage_turns):
            yield from (Step(f"stage {stage}, turn {turn + 1}", _STAGE_SECONDS, partial(run, stage)) for stage in Stage)

    def _recovery(self) -> Iterator[Step]:
        measurement = PeerRecovery(self._harness, self._sizes.recovery)

        async def run(system: System) -> None:
            self._results.came_back.append(await measurement.of(system, self._say))

        for system in self._systems:
            if system.name in self._sizes.recovery.systems:
                yield Step(f"recovery of {system.name}", _RECOVERY_SECONDS, partial(run, system))

    def _deliveries(self) -> Iterator[Step]:
        async def run() -> None:
            self._results.deliveries = await measure_deliveries(self._harness, self._sizes.deliveries, self._say)

        yield Step("deliveries", _DELIVERIES_SECONDS, run)

    def _catalog(self) -> Iterator[Step]:
        async def run() -> None:
            self._results.catalog = await measure_catalog(self._harness, self._sizes.catalog, self._say)

        yield Step("catalog", _CATALOG_SECONDS, run)

    def _ranking(self) -> Iterator[Step]:
        async def run() -> None:
            if reason := why_not():
                self._say(f"ranking is left out: {reason}")
            else:
                self._results.ranking = measure_ranking(self._sizes.ranking)

        yield Step("ranking, against the reference", _RANKING_SECONDS, run)


def _is_compared(system: System, users: int) -> bool:
    """A bar is set for it; or for none with so many users, as in a small run."""
    known = {at for job, at, _ in BARS if job == BARE}
    return system.name == TIDINGS.name or users not in known or (BARE, users, system.name) in BARS


def _figures(run: Measured) -> str:
    return f"{run.events_per_second:,.0f} events/s, {run.cpu_us_per_event:,.1f} µs CPU/event, {run.peak_rss_bytes / 1e6:,.0f} MB"



