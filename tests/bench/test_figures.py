"""What is made of the measurements: quotients, bars, tables; and that one failure does not cost the rest."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench.bars import judged
from tests.bench.capacity import find_capacity
from tests.bench.growth import GrowthPlan, Size, _drawn, _events
from tests.bench.harness import Cores, Measured
from tests.bench.latency import Latency, quantiles_of
from tests.bench.peer_recovery import CameBack
from tests.bench.peers import ROOT
from tests.bench.plot import draw
from tests.bench.recovery import Return
from tests.bench.results import Results
from tests.bench.steps import Outcome, Step, run_steps
from tests.bench.systems.tidings_path import Stage
from tests.bench.table import readme_tables
from tests.bench.two_workers import FleetRun, TwoWorkers
from tests.bench.workload import BareEvents, positions_of
from tidings.events.v1.event_pb2 import Event


def _run(job: str, users: int, system: str, rate: float) -> Measured:
    return Measured(job, users, system, 100, rate, 1e6 / rate, 200_000_000, {})


def _results() -> Results:
    """Everything was measured; growth, the view and what the clock says of two workers do not reach what is wanted."""
    results = Results(Cores(frozenset({0}), frozenset({1}), True))
    sequence = [
        ("state_per_user", "naive_faust", 1_000), ("state_per_user", "tidings", 70_000), ("state_per_user", "bare_aiokafka", 140_000),
        ("state_per_user", "tidings", 70_000), ("state_per_user", "naive_faust", 1_000), ("profile_fold", "tidings", 30_000),
        ("state_per_user", "naive_faust", 1_000),
    ]  # fmt: skip
    results.runs += [_run(job, 10_000, system, rate) for job, system, rate in sequence]
    results.stages = {stage: [_run("stage", 10_000, "tidings", 1e6 / (10 * number))] for number, stage in enumerate(Stage, 1)}
    results.latency = [
        Latency("event_to_view", 0.5, 10, 49.0, 60, 300, 200, 0.5), Latency("event_to_delivery", 0.5, 100, 249.0, 260, 300, 200, 0.5),
        Latency("view", 0.5, 1, 6.0, 9, 5_000, 200, 0.7), Latency("event_to_view", 0.8, 10, 90.0, 99, 300, 320, 0.8),
    ]  # fmt: skip
    back = Return(9.0, 8.0, 4_000_000, 500_000_000)
    results.growth = [
        Size(10_000, [400.0], [], 1.0, 0.9), Size(1_000_000, [520.0, 560.0, 530.0], [1.31, 1.4, 1.29], 1.0, 0.9, back, back, 1, 500.0)
    ]
    results.two_workers = TwoWorkers([FleetRun(1, 3_000, 300.0, 50.0)], [FleetRun(2, 4_800, 330.0, 50.0)])
    results.came_back = [CameBack("tidings", 100, 100, 3.0, 4.0)]
    return results


def test_every_figure_with_a_bar_is_judged_and_those_below_it_are_named() -> None:
    bars = {one.what: (one.figure, one.reached) for one in judged(_results().as_json())}
    assert bars == {
        "state_per_user, 10,000 users, over naive_faust's state_per_user": ("70x", True),
        "state_per_user, 10,000 users, over bare_aiokafka's state_per_user": ("0.5x", True),
        "profile_fold, 10,000 users, over naive_faust's state_per_user": ("30x", True),
        "event_to_view p99 at 50% of capacity": ("49.0 ms", True), "event_to_delivery p99 at 50% of capacity": ("249.0 ms", True),
        "view p99 at 50% of capacity": ("6.0 ms", False),
        "cost per event on the full path with 1,000,000 users": ("+31%", False),
        "two workers over one, by the clock": ("1.60x", False), "the same, by core-seconds": ("1.82x", True),
    }  # fmt: skip


def test_growth_is_the_median_of_the_pairs_not_the_quotient_of_the_medians() -> None:
    size = Size(1_000_000, [520.0, 560.0, 530.0], [1.31, 1.4, 1.29]).as_json()
    assert (size["cpu_us_per_event"], size["grown"], size["grown_pairs"]) == (530.0, 0.31, [0.31, 0.4, 0.29])
    assert Size(10_000).as_json()["grown"] is None


def test_two_workers_that_each_take_as_long_for_an_event_as_one_alone_do_twice_as_much_by_core_seconds() -> None:
    two = TwoWorkers([FleetRun(1, 1_000, 200.0, 1.0)], [FleetRun(2, 1_500, 200.0, 1.0)])
    assert (two.core_second_ratio, two.wall_ratio) == (2.0, 1.5)


def test_the_readmes_table_says_where_another_system_is_ahead_and_what_is_not_reached() -> None:
    written = json.loads(json.dumps(_results().as_json()))
    lines = readme_tables(written).splitlines()
    (aiokafka,) = [line for line in lines if "bare aiokafka" in line]
    assert "0.5x (0.5, 0.5), **it is ahead**" in aiokafka
    assert aiokafka.endswith("| ≥ 0.45x |")
    (faust,) = [line for line in lines if line.startswith("| Faust, as documented")]
    assert "ahead" not in faust
    assert [line for line in lines if "a view by itself" in line and "**p99 < 5 ms, not reached**" in line]
    (million,) = [line for line in lines if line.startswith("| 1,000,000 |")]
    assert "**< +30%, not reached**" in million
    assert "4,000,000 records" in million
    assert any("6 of 9 bars are reached. Not reached: " in line for line in lines)


def test_a_run_that_has_measured_nothing_yet_is_written_and_has_no_tables(tmp_path: Path) -> None:
    results = Results(Cores(frozenset(), frozenset(), False))
    results.outcome = Outcome({"latency": "lost\nmore"}, ["catalog"])
    results.write(tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert readme_tables(written) == "Failed: latency (lost).\n\nNo time was left for: catalog.\n"
    draw(written, tmp_path / "bench.png")
    assert not (tmp_path / "bench.png").exists()


def test_a_picture_is_drawn_of_all_that_was_measured(tmp_path: Path) -> None:
    draw(_results().as_json(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 30_000


async def test_a_step_that_fails_is_named_and_the_next_ones_are_made() -> None:
    made, written = [], list[dict[str, str]]()

    async def fail() -> None:
        raise ValueError("no broker")

    async def work() -> None:
        made.append(1)

    steps = [Step("bad", 1, fail), Step("good", 1, work)]
    outcome = await run_steps(steps, 60, print, lambda outcome: written.append(dict(outcome.failed)))
    assert (made, outcome.failed, outcome.not_begun) == ([1], {"bad": "no broker"}, [])
    assert written == [{"bad": "no broker"}, {"bad": "no broker"}]


async def test_a_step_that_would_last_beyond_the_time_is_not_begun_and_a_shorter_one_after_it_is() -> None:
    now, made = [0.0], []

    def step(what: str, seconds: float) -> Step:
        async def run() -> None:
            made.append(what)
            now[0] += seconds

        return Step(what, seconds, run)

    outcome = await run_steps([step("a", 50), step("long", 60), step("b", 40)], 100, print, lambda _: None, lambda: now[0])
    assert (made, outcome.not_begun) == (["a", "b"], ["long"])


async def test_a_step_that_hangs_is_broken_off() -> None:
    step = Step("hangs", 0.001, lambda: asyncio.sleep(60))
    outcome = await run_steps([step], 60, print, lambda _: None, extra_seconds=0.05)
    assert outcome.failed == {"hangs": "not done within 0 s"}


@dataclass
class _Machine:
    """Keeps up with so many events a second."""

    limit: float
    rate: float = 0.0

    async def waiting(self) -> float:
        return 0.0 if self.rate <= self.limit else self.rate


@pytest.mark.parametrize("limit", [99.0, 100.0, 350.0, 2_000.0])
async def test_the_capacity_is_found_to_within_a_step(limit: float) -> None:
    machine, rested = _Machine(limit), []

    async def no_sleep(_: float) -> None:
        pass

    async def rest() -> None:
        rested.append(machine.rate)

    found = await find_capacity(machine, lambda _: None, no_sleep, rest)
    assert machine.rate == 0
    assert (found == 0) if limit < 100 else (limit / 1.16 <= found <= limit)
    assert rested == ([] if limit < 100 else [0.0])


def test_bursts_meet_everybody_in_turn_and_all_numbers_of_users_meet_the_same_events() -> None:
    plan = GrowthPlan(users=1_000, pairs=3, burst_events=300)
    users = [b"user-%d" % number for number in range(1_000)]
    bursts = [_drawn(users, plan.burst_events, number) for number in range(plan.pairs)]
    assert len({user for burst in bursts for user in burst}) == plan.pairs * plan.burst_events
    again = _drawn(users, plan.burst_events, 3)
    assert len(set(again)) == plan.burst_events
    assert again[100:] == bursts[0][:200]
    few, many = list(_events(bursts[0], 1, 0, plan)), list(_events(bursts[0], 100, 0, plan))
    assert [record.key for record in few] == bursts[0]
    assert [record.key.split(b".")[0] for record in many] == bursts[0]
    assert len({record.key.partition(b".")[2] for record in many}) > 50
    ids = [Event.FromString(record.value).event_id for number in (0, 3) for record in _events(_drawn(users, 300, number), 1, number, plan)]
    assert len(set(ids)) == len(ids), "an event that was there already would be dropped"


def test_quantiles_are_of_what_was_measured() -> None:
    found = quantiles_of("view", 0.5, 100, 0.1, [number / 1000 for number in range(1, 101)])
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (51.0, 100.0, 100.0)


def test_the_fold_of_a_part_of_the_events_is_that_of_the_whole_list_cut_there() -> None:
    workload: Any = BareEvents(20, 300, 4)
    head = positions_of(record for i, record in enumerate(workload.records()) if i < 100)
    assert workload.expected(head).events == 100
    assert workload.expected(head) == BareEvents(20, 100, 4).expected(head)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc")
def test_the_peak_memory_of_a_program_is_not_that_of_the_one_which_started_it() -> None:
    held = b"x" * 300_000_000
    command = [sys.executable, "-c", "from tests.bench.protocol import peak_rss_bytes; print(peak_rss_bytes())"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, preexec_fn=lambda: None).stdout
    assert int(told) < len(held) // 2
