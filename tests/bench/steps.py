"""Steps of a measurement that takes half an hour and must not be lost for one that fails: each has a bound, what fails is named, and what
was measured so far is handed on after each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

#: A step may take so many times what it takes on a quiet machine, and this beside.
PATIENCE = 2.0
EXTRA_SECONDS = 150.0


@dataclass(frozen=True)
class Step:
    """``about_seconds`` on two quiet cores: for what is begun before the time is over, and for the bound."""

    what: str
    about_seconds: float
    run: Callable[[], Awaitable[None]]


@dataclass
class Outcome:
    """By step: what went wrong; and the steps that there was no time for."""

    failed: dict[str, str] = field(default_factory=dict)
    not_begun: list[str] = field(default_factory=list)


async def run_steps(
    steps: Sequence[Step], seconds: float, say: Callable[[str], None], after_each: Callable[[Outcome], None],
    clock: Callable[[], float] = time.monotonic, extra_seconds: float = EXTRA_SECONDS,
) -> Outcome:
    """In their order, which is that of their importance. A step that would last beyond ``seconds`` from now is not begun, one that fails
    does not keep the next from being made. What ends the whole run (a signal, Ctrl-C) goes through.
    """
    outcome, began = Outcome(), clock()
    for number, step in enumerate(steps, 1):
        gone = clock() - began
        if gone + step.about_seconds > seconds:
            outcome.not_begun.append(step.what)
            continue
        say(f"[{number}/{len(steps)}, {gone / 60:.0f} of {seconds / 60:.0f} min] {step.what}")
        bound_seconds = PATIENCE * step.about_seconds + extra_seconds
        try:
            async with asyncio.timeout(bound_seconds) as bound:
                await step.run()
        except Exception as exc:  # whatever it is, the other steps are worth their while
            late = f"not done within {bound_seconds:,.0f} s"
            outcome.failed[step.what] = late if bound.expired() else str(exc) or repr(exc)
        if reason := outcome.failed.get(step.what):
            say(f"FAILED: {step.what}: {reason}")
        after_each(outcome)
    return outcome
