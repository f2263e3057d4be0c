"""Runs by seed: what a failure says, and what a row of runs came to."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import StateError
from tests.simulation.flaws import Flaws
from tests.simulation.scheduler import NO_FLAWS, Simulation

#: Runs between two collections of garbage.
_COLLECT_EVERY = 50


@dataclass
class Figures:
    """What happened in a row of runs."""

    runs: int = 0
    steps: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    #: Of every record of every log, and of every step: equal digests, equal runs.
    digest: int = 0

    def add(self, simulation: Simulation) -> None:
        """One that came to its end."""
        logs = hashlib.blake2b(digest_size=8)
        # Sorted: within a batch, the order of marks is that of a set.
        for place, log in sorted(simulation.world.logs.items()):
            logs.update(repr((place, sorted(map(repr, log.records)))).encode())
        logs.update(b"%d" % simulation.world.trace)
        requests = sum(receiver.count for receiver in simulation.targets.receivers.values())
        self.merge(Figures(1, simulation.world.steps, requests, simulation.counts, int.from_bytes(logs.digest(), "big")))

    def merge(self, other: Figures) -> None:
        self.runs += other.runs
        self.steps += other.steps
        self.requests += other.requests
        self.faults += other.faults
        self.digest = (self.digest + other.digest) % 2**64


def run(seed: int, flaws: Flaws = NO_FLAWS) -> Simulation:
    """One run to its end. Whatever it raises says how to see it again, and what was done last."""
    simulation = Simulation(seed, flaws)
    try:
        with flaws.applied():
            simulation.run()
    except Exception as exc:
        exc.add_note(f"the last steps of the run:\n{simulation.world.journal()}")
        exc.add_note(f"to see it again: make simulate SEED={seed}{f' FLAW={flaws.name}' if flaws != NO_FLAWS else ''}")
        raise
    return simulation


def run_all(seeds: Iterable[int], flaws: Flaws = NO_FLAWS) -> Figures:
    """All of them, or up to the first that fails."""
    figures = Figures()
    with quietly():
        for number, seed in enumerate(seeds):
            if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
                gc.collect()
            figures.add(run(seed, flaws))
    return figures


def first_that_finds(flaw: str, seeds: Iterable[int]) -> int | None:
    """The first run that fails, as it should, while the rule is broken."""
    flaws = Flaws(**{flaw: True})
    with quietly():
        for number, seed in enumerate(seeds):
            if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
                gc.collect()
            try:
                run(seed, flaws)
            except (AssertionError, StateError):
                return seed
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Runs make much garbage in circles: it is collected now and then, not all the time; and workers that end themselves say so."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        logging.disable(disabled)
