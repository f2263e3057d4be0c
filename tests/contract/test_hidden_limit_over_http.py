"""A rate limit that nobody declared, at a receiver over HTTP: most of it is used, and hardly a request is throttled."""

from __future__ import annotations

import asyncio
import os

import pytest

from app.web.demo.platforms.limits import FixedWindow, Limiter, RollingWindow
from tests.contract.test_deliveries_over_http import delivering

#: TIDINGS_HIDDEN_LIMITS=1 tries three kinds of limit and holds them to the bar: for a machine that does nothing else. Beside other tests a
#: client comes late now and then, and what is then not used says nothing about it.
ALL_KINDS = bool(os.environ.get("TIDINGS_HIDDEN_LIMITS"))
AT_LEAST_USED = 0.9 if ALL_KINDS else 0.75
MEASURE_SECONDS = 30 if ALL_KINDS else 15
#: Requests a second.
LIMIT = 60
PEOPLE = 1_200


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "limiter", "settings", "learn_seconds"),
    [
        # Says nothing.
        ("customerio", FixedWindow(LIMIT, 1.0), {"max_people": 2}, 45),
        # Says in Retry-After for how long, in whole seconds, so that each throttling costs a second: they must have become rare.
        ("webhook", RollingWindow(LIMIT, 1.0), {"concurrency": 8}, 100),
        # Says in a header of its own.
        ("braze", RollingWindow(10 * LIMIT, 10.0), {"max_people": 2}, 45),
    ][: 3 if ALL_KINDS else 1],
)
async def test_most_of_a_hidden_limit_is_used_and_hardly_a_request_is_throttled(
    kind: str, limiter: Limiter, settings: dict[str, int], learn_seconds: int
) -> None:
    async with delivering(kind, users=PEOPLE, speed=1.0, **settings) as (world, deliverer):
        platform = world.platform
        # A test of its own says that the requests are right; holding each against the contract costs more than sending it.
        platform.check = lambda *_: None
        platform.hidden = limiter
        deliverer.due(world.users)

        async def keep_busy() -> None:
            """Half of the people have something new as soon as the other half is all there is."""
            while True:
                done = [user for user in world.users if world.is_confirmed(user)]
                if len(done) > PEOPLE / 2:
                    for user in done:
                        world.people.change(user)
                    deliverer.due(done)
                await asyncio.sleep(0.5)

        feeder = asyncio.create_task(keep_busy())
        try:
            await asyncio.sleep(learn_seconds)
            before, began = platform.counts.copy(), platform.now()
            await asyncio.sleep(MEASURE_SECONDS)
            counts, seconds = platform.counts - before, platform.now() - began
        finally:
            feeder.cancel()
        answered = counts["requests"] - counts["throttled"]
        used, throttled = answered / (LIMIT * seconds), counts["throttled"] / counts["requests"]
        print(f"{kind}: {used:.1%} used, {throttled:.2%} throttled, in {seconds:.0f} s")
        assert used >= AT_LEAST_USED
        assert throttled < 0.02
        assert not world.regressions
