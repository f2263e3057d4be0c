"""How much is measured: users and events of each job, and what takes how long on two quiet cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.bars import BARE
from tests.bench.catalog import CatalogPlan
from tests.bench.deliveries import DeliveryPlan
from tests.bench.growth import GrowthPlan
from tests.bench.latency import Plan
from tests.bench.path import JOBS as PATH_JOBS
from tests.bench.peer_recovery import PeerRecoveryPlan
from tests.bench.ranking import RankingPlan
from tests.bench.two_workers import TwoWorkersPlan

#: In the order of their importance, in which they are measured.
JOBS = (BARE, *PATH_JOBS, "latency", "two_workers", "growth", "stages", "recovery", "deliveries", "catalog", "ranking")


@dataclass(frozen=True)
class Sizes:
    #: Users and events of the bare job. With the first number of users every system runs it, with the others those that a bar is set for.
    bare: Sequence[tuple[int, int]] = ((10_000, 1_000_000), (1_000_000, 500_000))
    #: Events of a system that takes far longer for them (System.slow): it is at its full speed from the start.
    bare_slow_events: int = 300_000
    path: tuple[int, int] = (10_000, 100_000)
    #: Turns of all stages.
    stage_turns: int = 1
    plan: Plan = field(default_factory=Plan)
    #: Parts of what the worker keeps up with, at which latencies are measured; what that is, in events a second (0: find out).
    loads: Sequence[float] = (0.5, 0.8)
    capacity: float = 0.0
    growth: GrowthPlan = field(default_factory=GrowthPlan)
    two_workers: TwoWorkersPlan = field(default_factory=TwoWorkersPlan)
    recovery: PeerRecoveryPlan = field(default_factory=PeerRecoveryPlan)
    catalog: CatalogPlan = field(default_factory=CatalogPlan)
    deliveries: DeliveryPlan = field(default_factory=DeliveryPlan)
    ranking: RankingPlan = field(default_factory=RankingPlan)
    #: Of the systems that are given fewer events.
    max_events: int | None = None


#: Enough to see that everything runs and comes out right. Its figures say nothing.
QUICK = Sizes(
    bare=((200, 4_000), (2_000, 4_000)), bare_slow_events=2_000, path=(200, 2_000), stage_turns=1, max_events=1_000,
    plan=Plan(users=200, warm_up_events=1_000, probes=10, probes_per_second=10, views=100), loads=(0.5,), capacity=20.0,
    growth=GrowthPlan(users=200, times=(1, 3), warm_up_events=600, pairs=1, burst_events=90, quiet_seconds=1.0),
    two_workers=TwoWorkersPlan(users=200, events=600, rounds=1),
    recovery=PeerRecoveryPlan(users=200, events=400, quiet_seconds=3.0),
    ranking=RankingPlan(learn_events=2_000, queries=200, rounds=2),
    deliveries=DeliveryPlan(
        deliveries=1_000, rounds=1, events_per_second=20, isolation_rounds=0,  # one takes a minute and a half, most of it waiting
        probes=Plan(users=200, warm_up_events=500, probes=10, probes_per_second=10),
    ),
    catalog=CatalogPlan(
        products=6_000, changes_per_second=100, events_per_second=20, probes=3, alone_seconds=2, burst_events=500, pairs=1,
        worker=Plan(users=200, warm_up_events=500),
    ),
)
