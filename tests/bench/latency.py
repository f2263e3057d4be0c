"""How long an event takes to the view and to the webhook, and a view by itself, while events flow at a share of what the worker keeps up
with (capacity.py).

Open loop: what is due is sent when it is due, whatever has become of what was sent before, and times count from when it was due. The worker
is `tidings worker` as it is, on its core; the broker, the feeder, the probes and the webhook receiver share the other.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from app.streams.publisher import partition_of
from tests.bench.capacity import find_capacity
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.running import Feed, Flow, Plan, RunningWorker, core_used, running_worker, until_idle
from tests.bench.worker_settings import ENVIRONMENT
from tests.bench.workload import FIRST_EVENT_MS
from tidings.events.v1.event_pb2 import Event

VIEWS_CLIENT = (sys.executable, "-m", "tests.bench.views_client")
#: Between two looks at the view of a probe: this long, or this part of what it has waited, so that late probes are not a load of their own.
_POLL_SECONDS = 0.005
_POLL_PART = 0.05
#: Later than this a probe counts as lost, and the measurement as failed.
_LOST_SECONDS = 60.0


@dataclass(frozen=True)
class Latency:
    """Quantiles of one measure, in milliseconds. ``worker_core`` is the part of its core that the worker used meanwhile."""

    measure: str
    load: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    samples: int
    events_per_second: float
    worker_core: float


async def measure_latencies(
    harness: Harness, loads: Sequence[float], capacity: float, plan: Plan, say: Callable[[str], None], note: Callable[[Latency], None]
) -> None:
    """One worker at each of the ``loads`` (parts of ``capacity`` in events a second; 0: find it), and views by themselves at the first of
    them. Each figure is noted when it is known. Raises BenchError when a probe is lost.
    """
    async with running_worker(harness, plan, say) as (worker, feed):
        flowing = Flow(worker, feed)
        flow = asyncio.create_task(flowing.run())
        try:
            if not capacity:
                capacity = await find_capacity(flowing, say, until_idle=lambda: until_idle(worker))
                say(f"{capacity:,.0f} events/s are kept up with")
                await until_idle(worker)
            for number, load in enumerate(loads):
                flowing.rate = rate = load * capacity
                await asyncio.sleep(2)
                say(f"{plan.probes} probes at {rate:,.0f} events/s, {load:.0%} of it")
                used = worker.cpu_seconds(), time.monotonic()
                probed = await measure_probes(worker, feed, plan, f"probe-{number}-")
                core = core_used(worker, *used)
                note(quantiles_of("event_to_view", load, rate, core, probed["view"]))
                note(quantiles_of("event_to_delivery", load, rate, core, probed["delivery"]))
                if number == 0:
                    say(f"{plan.views} views, {plan.views_per_second:g} a second, at {rate:,.0f} events/s")
                    used = worker.cpu_seconds(), time.monotonic()
                    viewed = await _views(harness, worker, plan)
                    note(quantiles_of("view", load, rate, core_used(worker, *used), viewed))
                if flow.done():
                    raise BenchError(f"the feeder ended: {flow.exception()!r}")
        finally:
            flow.cancel()
            with suppress(asyncio.CancelledError):
                await flow


def as_json(latency: Latency) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(latency).items()}


def quantiles_of(measure: str, load: float, rate: float, core: float, seconds: list[float]) -> Latency:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    return Latency(measure, load, at(0.50), at(0.99), ordered[-1] * 1000, len(ordered), rate, core)


async def measure_probes(worker: RunningWorker, feed: Feed, plan: Plan, prefix: str = "probe-") -> dict[str, list[float]]:
    """From sending an event of a new user to its view, and to the first body with that user at the webhook receiver."""
    tasks: list[asyncio.Task[float]] = []
    due_at: dict[str, float] = {}
    arrived: dict[str, float] = {}
    began = time.monotonic()
    for i in range(plan.probes):
        due = began + i / plan.probes_per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due_at[f"{prefix}{i}"] = due
        tasks.append(asyncio.create_task(_probe(worker, feed, f"{prefix}{i}", i, due)))
    try:
        async with asyncio.timeout(_LOST_SECONDS):
            await asyncio.wait(tasks)
            while len(arrived := await worker.seen(prefix)) < plan.probes:  # noqa: ASYNC110  # another process has no Event to wait for
                await asyncio.sleep(0.25)
    except TimeoutError:
        raise BenchError(
            f"{_LOST_SECONDS:g} s after the last of {plan.probes} probes, {sum(task.done() for task in tasks)} were in the views and "
            f"{len(arrived)} at the webhook receiver: the worker does not keep up with this load"
        ) from None
    finally:
        for task in tasks:
            task.cancel()
    return {"view": [task.result() for task in tasks], "delivery": [arrived[user_id] - due for user_id, due in due_at.items()]}


async def _probe(worker: RunningWorker, feed: Feed, user_id: str, i: int, due: float) -> float:
    event = Event(event_id=f"{user_id}-event", user_id=user_id, occurred_at_ms=FIRST_EVENT_MS + i, source="bench")
    event.product_viewed.product_id = f"product-{i % 50}"
    key = user_id.encode()
    await feed.producer.send(feed.topic, event.SerializeToString(), key, partition=partition_of(key, PARTITIONS))
    while await worker.event_count(user_id) == 0:  # noqa: ASYNC110  # a client of the view polls
        await asyncio.sleep(max(_POLL_SECONDS, _POLL_PART * (time.monotonic() - due)))
    return time.monotonic() - due


async def _views(harness: Harness, worker: RunningWorker, plan: Plan) -> list[float]:
    """Asked by a program of its own, for this one is busy sending events."""
    asked = (worker.url, ENVIRONMENT["BENCH_TOKEN"], str(plan.users), str(plan.views), str(plan.views_per_second))
    async with harness.process((*VIEWS_CLIENT, *asked), "views", measured=False) as process:
        assert process.stdout is not None
        async with asyncio.timeout(_LOST_SECONDS + plan.views / plan.views_per_second):
            said = await process.stdout.read()
        if await process.wait() or not said:
            raise BenchError(f"the client of the views ended:\n{(harness.directory / 'views.log').read_text()[-2000:]}")
    return json.loads(said)
