"""After any order of steps, crashes, repeats, changes of owner and zombies, the tables equal a plain fold of the log."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest

from app.errors import StateError
from tests.simulation.cluster import Flaws
from tests.simulation.scheduler import NOBODY, Simulation

#: Runs of one test; four of them make a thousand.
RUNS = 250
#: Runs within which each flaw must be found; most are by the first few.
RUNS_WITH_A_FLAW = 150


async def run(seed: int, flaws: Flaws = NOBODY) -> Simulation:
    simulation = Simulation(seed, flaws)
    try:
        await simulation.run()
    except Exception as exc:
        exc.add_note(f"to see it again: Simulation({seed}, {flaws})")
        raise
    return simulation


@pytest.mark.parametrize("first_seed", range(0, 4 * RUNS, RUNS))
async def test_the_tables_equal_the_plain_fold_whatever_happens(first_seed: int) -> None:
    faults: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + RUNS):
        faults += (await run(seed)).counts

    # Faults that do not happen prove nothing.
    assert {fault for fault, count in faults.items() if count >= 5} == {
        "kill", "lost disk", "pause", "zombie", "rebalance", "produce error", "fenced",
    }  # fmt: skip


@pytest.mark.parametrize("flaw", [field.name for field in fields(Flaws)])
async def test_the_simulation_finds_an_engine_whose_rule_is_broken(flaw: str) -> None:
    flaws = Flaws(**{flaw: True})
    for seed in range(RUNS_WITH_A_FLAW):
        try:
            await run(seed, flaws)
        except (AssertionError, StateError):
            return
    pytest.fail(f"{RUNS_WITH_A_FLAW} runs did not show that {flaw}")


async def test_a_seed_gives_the_same_run_again() -> None:
    one, again = await run(7), await run(7)

    for place, log in one.broker.logs.items():
        assert again.broker.logs[place].records == log.records, place
    assert one.counts == again.counts
