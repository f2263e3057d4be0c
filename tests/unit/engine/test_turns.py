"""Heavy steps come one after another with rounds of the event loop in between, urgent ones first, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from app.engine.turns import CALM_STEP_SECONDS, LETS_PASS, ROUNDS, STEP_SECONDS, Priority, Turns


class Steps:
    """Who took a turn, and in which round of the loop."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[str] = []
        self.rounds: list[int] = []
        self._round = 0

    async def take(self, name: str, times: int = 1, priority: Priority = Priority.ORDINARY) -> None:
        for _ in range(times):
            await self.turns.take(priority)
            self.order.append(name)
            self.rounds.append(self._round)

    async def count_rounds(self) -> None:
        while True:
            self._round += 1
            await asyncio.sleep(0)

    async def run(self, *takers: object, is_urgent: bool = True) -> None:
        counting = asyncio.create_task(self.count_rounds())
        if is_urgent:
            self.turns.hurry()
        async with asyncio.timeout(5):
            await asyncio.gather(*takers)  # type: ignore[call-overload]  # coroutines
        counting.cancel()


async def test_steps_of_many_come_in_turn_and_the_loop_goes_round_between_two_of_them() -> None:
    steps = Steps()
    await steps.run(steps.take("a", 4), steps.take("b", 4), steps.take("c", 4))
    assert steps.order == ["a", *["a", "b", "c"] * 3, "b", "c"], "the first finds nobody before it"
    assert all(after - before >= ROUNDS for before, after in pairwise(steps.rounds)), steps.rounds


async def test_whoever_is_alone_waits_for_these_rounds_only() -> None:
    steps = Steps()
    await steps.run(steps.take("a", 5))
    assert all(after - before <= ROUNDS + 1 for before, after in pairwise(steps.rounds)), steps.rounds


async def test_an_urgent_step_goes_before_the_ordinary_ones_that_wait() -> None:
    steps = Steps()
    await steps.run(*(steps.take(f"o{n}") for n in range(5)), steps.take("urgent", 1, Priority.URGENT))
    assert steps.order == ["o0", "urgent", "o1", "o2", "o3", "o4"]


async def test_urgent_steps_without_end_leave_a_quarter_of_the_turns_to_the_others() -> None:
    steps = Steps()
    await steps.run(steps.take("o", 10), *(steps.take("u", 50, Priority.URGENT) for _ in range(4)))
    while_both = steps.order[: max(n for n, name in enumerate(steps.order) if name == "o") + 1]
    assert while_both.count("o") == 10
    assert 10 * LETS_PASS[Priority.ORDINARY] <= len(while_both) <= 10 * (LETS_PASS[Priority.ORDINARY] + 1)


async def test_what_is_patient_lets_others_pass_but_not_for_ever() -> None:
    steps = Steps()
    await steps.run(steps.take("p", 4, Priority.PATIENT), *(steps.take("o", 30) for _ in range(2)))
    gaps = [after - before for before, after in pairwise(n for n, name in enumerate(steps.order) if name == "p")]
    assert gaps[1:] == [LETS_PASS[Priority.PATIENT] + 1] * 2, steps.order


async def test_the_patient_get_their_turn_beside_urgent_and_ordinary_work_without_end() -> None:
    steps = Steps()
    urgent = [steps.take("u", 50, Priority.URGENT) for _ in range(3)]
    await steps.run(steps.take("p", 3, Priority.PATIENT), *(steps.take("o", 20) for _ in range(2)), *urgent)
    assert steps.order[:30].count("p") == 3
    assert steps.order[:30].count("o") >= 5


@pytest.mark.parametrize("rounds_before", [0, 1, *range(ROUNDS - 1, 2 * ROUNDS)])  # before it waits, while it does, when its turn is given
async def test_whoever_is_cancelled_holds_nobody_up(rounds_before: int) -> None:
    steps = Steps()
    steps.turns.hurry()
    waiting = [asyncio.create_task(steps.take(name)) for name in ("ahead", "gone", "next")]
    await steps.take("first")
    for _ in range(rounds_before):
        await asyncio.sleep(0)
    waiting[1].cancel()
    async with asyncio.timeout(5):
        await waiting[2]
        await steps.take("again")
    assert steps.order == ["first", "ahead", "next", "again"]


async def test_without_anything_urgent_all_step_in_each_round_and_none_for_long() -> None:
    steps = Steps()
    await steps.run(steps.take("a", 3, Priority.PATIENT), steps.take("b", 3), is_urgent=False)
    assert steps.order == ["a", "b"] * 3
    assert steps.turns.step_seconds == CALM_STEP_SECONDS
    await steps.turns.take(Priority.URGENT)
    assert steps.turns.step_seconds == STEP_SECONDS
