"""When rankings happen: each in its time, or, in a busy worker, those of all partitions together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from app.settings import RankingSettings
from app.streams.rank_users import Ranked, RankUsers
from tests.unit.delivery.worlds import until

STEP = 0.2


class Rankings:
    """Notes when which partition was ranked, in the loop's time. Its users are ranked by nobody."""

    def __init__(self, step_seconds: Callable[[], float]) -> None:
        self.at: list[tuple[int, float]] = []
        self.clock = asyncio.get_running_loop().time
        app: Any = SimpleNamespace(turns=SimpleNamespace(take=self._take), apply_to=self._apply_to, room_made=lambda: None, fail=self._fail)
        self.ranker = RankUsers(
            app, *(SimpleNamespace() for _ in range(3)), updates_topic="updates", delay_seconds=lambda _: 0.0,  # type: ignore[arg-type]  # stand-ins
            settings=RankingSettings(tick_ms=10), targets=[], rank=lambda *_: [], due=lambda _: None, monotonic=self.clock,
            step_seconds=step_seconds,
        )  # fmt: skip

    async def _take(self, _: Any) -> None:
        """At once."""

    async def _apply_to(self, _: Any, partition: int, __: Any) -> Ranked:
        self.at.append((partition, self.clock()))
        return Ranked(0, [])

    def _fail(self, exc: BaseException) -> None:
        raise exc

    def dirty(self, partition: int) -> None:
        unit: Any = SimpleNamespace(partition=partition, done=asyncio.get_running_loop().create_future(), hold=lambda _: None)
        self.ranker.dirty(unit, b"anna", 1)


async def test_in_a_busy_worker_all_partitions_are_ranked_at_one_moment_after_their_time() -> None:
    rankings = Rankings(lambda: STEP)
    await rankings.ranker.begin([0, 1])
    await asyncio.sleep(STEP * 1.05 - rankings.clock() % STEP)  # right after such a moment
    began = rankings.clock()
    rankings.dirty(0)
    await asyncio.sleep(0.06)
    rankings.dirty(1)
    await until(lambda: len(rankings.at) == 2)
    await rankings.ranker.give_up()

    assert {partition for partition, _ in rankings.at} == {0, 1}
    moment = (began // STEP + 1) * STEP
    assert all(at >= moment for _, at in rankings.at), "a tenth of it would have been enough"


async def test_in_an_idle_worker_a_ranking_waits_for_its_tick_alone() -> None:
    rankings = Rankings(lambda: 0.0)
    await rankings.ranker.begin([0])
    began = rankings.clock()
    rankings.dirty(0)
    await until(lambda: bool(rankings.at))
    await rankings.ranker.give_up()
    assert rankings.at[0][1] - began >= 0.01
