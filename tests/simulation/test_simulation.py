"""After any order of steps, crashes, repeats, changes of owner and zombies, tables equal a plain fold of the log, and targets have it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from app.errors import StateError
from tests.simulation.flaws import Flaws
from tests.simulation.runs import first_that_finds, quietly, run, run_all

#: Runs of the test. More: make simulate RUNS=10000.
RUNS = 220
#: Runs within which each flaw must be found; most are by the first few, all by a hundred or a little more.
RUNS_WITH_A_FLAW = 500
FLAWS = [field.name for field in fields(Flaws)]

pytestmark = [
    # Tasks of processes that were killed never end.
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_tables_and_targets_come_to_the_plain_fold_whatever_happens() -> None:
    figures = run_all(range(1, 1 + RUNS))

    # Faults that do not happen prove nothing.
    assert {fault for fault, count in figures.faults.items() if count >= 3} == {
        "kill", "lost disk", "pause", "freeze", "zombie", "cut off", "expelled", "rebalance", "stop", "repeat", "long wait",
        "request refused", "produce error", "fenced", "blow",
    }  # fmt: skip
    assert figures.requests > RUNS


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_simulation_finds_a_worker_whose_rule_is_broken(flaw: str) -> None:
    assert first_that_finds(flaw, range(1, 1 + RUNS_WITH_A_FLAW)) is not None, f"{RUNS_WITH_A_FLAW} runs did not show that {flaw}"


def test_a_rule_that_was_broken_is_mended_after_the_run() -> None:
    with quietly():
        for flaw in fields(Flaws):
            with Flaws(**{flaw.name: True}).applied():
                pass
        before = run(3).world.trace
        with pytest.raises((AssertionError, StateError)):
            run(3, Flaws(marks_are_dropped=True))
        assert run(3).world.trace == before


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """Record for record, and step for step."""
    said = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--runs", "8"]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout.rpartition("digest")[2])
    assert len(said) == 1


def test_a_failure_says_its_seed_and_the_last_steps() -> None:
    seed, flaws = 1, Flaws(gives_up_without_waiting=True)
    with quietly():
        while True:
            try:
                run(seed, flaws)
            except AssertionError as exc:
                notes, said = "\n".join(exc.__notes__), str(exc)
                break
            seed += 1
        assert f"SEED={seed}" in notes
        assert notes.count("step ") > 5
        with pytest.raises(AssertionError, match="gives up without waiting") as again:
            run(seed, flaws)
    assert (str(again.value), "\n".join(again.value.__notes__)) == (said, notes)
