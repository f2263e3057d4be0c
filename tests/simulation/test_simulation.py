"""After any order of steps, crashes, repeats, changes of owner and zombies, tables equal a plain fold of the log, and targets have it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from app.errors import StateError
from tests.simulation.flaws import Flaws
from tests.simulation.runs import quietly, run, run_all

#: Runs of one test; there are two. More: make simulate RUNS=10000.
RUNS = 100
#: Runs within which each flaw must be found; most are by the first few.
RUNS_WITH_A_FLAW = 150

pytestmark = [
    # Tasks of processes that were killed never end.
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("first_seed", [1, 1 + RUNS])
def test_tables_and_targets_come_to_the_plain_fold_whatever_happens(first_seed: int) -> None:
    figures = run_all(range(first_seed, first_seed + RUNS))

    # Faults that do not happen prove nothing.
    assert {fault for fault, count in figures.faults.items() if count >= 3} == {
        "kill", "lost disk", "pause", "zombie", "cut off", "expelled", "rebalance", "stop", "repeat", "long wait", "produce error",
        "fenced",
    }  # fmt: skip
    assert figures.requests > RUNS


@pytest.mark.parametrize("flaw", [field.name for field in fields(Flaws)])
def test_the_simulation_finds_a_worker_whose_rule_is_broken(flaw: str) -> None:
    flaws = Flaws(**{flaw: True})
    with quietly():
        for seed in range(RUNS_WITH_A_FLAW):
            try:
                run(seed, flaws)
            except (AssertionError, StateError):
                return
    pytest.fail(f"{RUNS_WITH_A_FLAW} runs did not show that {flaw}")


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    said = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--runs", "8"]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout.rpartition("digest")[2])
    assert len(said) == 1
