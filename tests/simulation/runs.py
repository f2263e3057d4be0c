"""Runs by seed: what a failure says, and what a row of runs came to."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    _logs: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=8))

    def add(self, simulation: Simulation) -> None:
        self.runs += 1
        self.steps += simulation.world.steps
        self.requests += sum(receiver.count for receiver in simulation.targets.receivers.values())
        self.faults += simulation.counts
        # Sorted: within a batch, the order of marks is that of a set.
        for place, log in sorted(simulation.world.logs.items()):
            self._logs.update(repr((place, sorted(map(repr, log.records)))).encode())

    @property
    def digest(self) -> str:
        """Of every record of every log: equal digests, equal runs."""
        return self._logs.hexdigest()


def run(seed: int, flaws: Flaws = NO_FLAWS) -> Simulation:
    """One run to its end. Whatever it raises says how to see it again, and what was done last."""
    simulation = Simulation(seed, flaws)
    try:
        simulation.run()
    except Exception as exc:
        exc.add_note(f"the last steps of the run:\n{simulation.world.journal()}")
        exc.add_note(f"to see it again: make simulate SEED={seed}" + (f", with {flaws}" if flaws != NO_FLAWS else ""))
        raise
    return simulation


def run_all(seeds: Iterable[int], tell: Callable[[Figures], None] = lambda _: None) -> Figures:
    """All of them, or up to the first that fails."""
    figures = Figures()
    with quietly():
        for number, seed in enumerate(seeds):
            if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
                gc.collect()
                tell(figures)
            figures.add(run(seed))
    return figures


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
