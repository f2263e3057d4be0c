"""How large a run is: most are tiny, so that faults fall close together and many runs fit in a second; some are larger."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

#: The part of the runs that are large: in them is what takes several partitions, users, targets or kinds of records.
LARGE_SHARE = 0.04


@dataclass(frozen=True)
class Size:
    """Pairs are the least and the most; the others are drawn from."""

    partitions: tuple[int, ...]
    workers: tuple[int, ...]
    targets: tuple[int, ...]
    records: tuple[int, int]
    #: Before calm.
    steps: tuple[int, int]
    #: What is done in peace before the first fault: nothing, or enough to join, or to fold, rank and send besides.
    peaceful_steps: tuple[int, ...]
    #: How often somebody does all that can be done, and not one step.
    haste: tuple[float, ...]
    users: int
    products: int
    #: The part of what comes to the events that is none.
    noise: float
    #: Of one step, that it is a fault.
    fault_rates: tuple[float, ...]
    #: How often the run has what is added to tables from outside of events: products, operators' commands; and shares, which cost a third.
    has_products: float
    has_commands: float
    has_shares: float


SMALL = Size(
    partitions=(1, 1, 1, 2), workers=(1, 2, 2, 2), targets=(1,), records=(1, 5), users=2, products=3, noise=0.15,
    steps=(20, 60), peaceful_steps=(0, 60, 120, 180), haste=(0.2, 0.5, 0.8), fault_rates=(0.02, 0.08),
    has_products=0.15, has_commands=0.25, has_shares=0.03,
)  # fmt: skip
LARGE = Size(
    partitions=(1, 1, 2, 3), workers=(1, 2, 2, 2, 3), targets=(1, 1, 2), records=(4, 20), users=5, products=6, noise=0.08,
    steps=(40, 160), peaceful_steps=(0, 100, 200), haste=(0.0, 0.2, 0.4), fault_rates=(0.01, 0.03),
    has_products=0.9, has_commands=0.9, has_shares=0.3,
)  # fmt: skip


def size_of(random: Random) -> Size:
    return LARGE if random.random() < LARGE_SHARE else SMALL
