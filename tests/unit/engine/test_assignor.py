"""Placement by way of Faust's group protocol: what a worker says when it joins, and what the leader makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from app.engine.assignor import EngineAssignor

CHANGELOGS = ("profiles-changelog", "items-changelog")
TOPICS = {"events", "visits", *CHANGELOGS}
PARTITIONS = 4
CLUSTER = SimpleNamespace(partitions_for_topic=lambda topic: set(range(PARTITIONS)) if topic in TOPICS else None)


class Tables(dict[str, Any]):
    changelog_topics = frozenset(CHANGELOGS)
    data: dict[str, Any] = {}  # noqa: RUF012  Faust asks for it


def worker(name: str, on_disk: dict[str, set[int]] | None = None) -> EngineAssignor:
    """``on_disk`` by changelog."""
    stores = {topic: SimpleNamespace(on_disk=lambda topic=topic: set((on_disk or {}).get(topic, ()))) for topic in CHANGELOGS}
    tables = Tables({topic: SimpleNamespace(changelog_topic_name=topic, store=store) for topic, store in stores.items()})
    sensors = SimpleNamespace(on_assignment_start=lambda _: None, on_assignment_completed=lambda *_: None)
    app = SimpleNamespace(tables=tables, conf=SimpleNamespace(canonical_url=f"http://{name}"), tracer=None, sensors=sensors)
    return EngineAssignor(app, replicas=1)  # type: ignore[arg-type]  # what an assignor asks of an app


def rebalance(*workers: EngineAssignor) -> None:
    """All join; the first is the leader. Each gets its part over the wire."""
    joined = {f"member-{n}": each.metadata(TOPICS) for n, each in enumerate(workers)}
    given = workers[0].assign(CLUSTER, joined)
    for member, each in zip(joined, workers, strict=True):
        each.on_assignment(ConsumerProtocolMemberAssignment.decode(given[member].encode()))


def owned(each: EngineAssignor) -> set[int]:
    """The same of every topic, or nothing fits."""
    by_topic = {topic: {tp.partition for tp in each.assigned_actives() if tp.topic == topic} for topic in TOPICS}
    assert len(set(map(frozenset, by_topic.values()))) == 1, by_topic
    return by_topic["events"]


def stood_by_for(each: EngineAssignor) -> set[int]:
    return {tp.partition for tp in each.assigned_standbys() if tp.topic in CHANGELOGS}


def test_a_third_worker_takes_one_of_four_partitions_and_the_rest_stay() -> None:
    a, b, c = worker("a"), worker("b"), worker("c")
    rebalance(a, b)
    before = owned(a), owned(b)
    assert [len(owned(each)) for each in (a, b)] == [2, 2]
    assert (stood_by_for(a), stood_by_for(b)) == (owned(b), owned(a))
    rebalance(a, b, c)
    assert sorted(len(owned(each)) for each in (a, b, c)) == [1, 1, 2]
    assert owned(a) <= before[0]
    assert owned(b) <= before[1]
    rebalance(a, b)
    assert (owned(a), owned(b)) == before, "it went to whoever stood by for it"


def test_a_worker_that_comes_back_says_what_it_has_on_disk_and_gets_it() -> None:
    a, b = worker("a"), worker("b")
    rebalance(a, b)
    of_b = owned(b)
    rebalance(a)
    assert owned(a) == set(range(PARTITIONS))
    again = worker("b", {topic: of_b | {9} for topic in CHANGELOGS})
    rebalance(a, again)
    assert owned(again) == of_b


def test_a_partition_of_which_a_table_is_missing_on_disk_is_not_claimed() -> None:
    a, b = worker("a", {CHANGELOGS[0]: {0, 1, 2, 3}}), worker("b", {topic: {0, 1} for topic in CHANGELOGS})
    rebalance(a, b)
    assert owned(b) == {0, 1}


def test_everybody_knows_where_every_partition_is() -> None:
    a, b = worker("a"), worker("b")
    rebalance(a, b)
    for each in (a, b):
        assert {str(each._tps_url[tp]) for tp in a.assigned_actives() if tp.topic in CHANGELOGS} == {"http://a"}
        assert {str(each._tps_url[tp]) for tp in b.assigned_actives() if tp.topic in CHANGELOGS} == {"http://b"}
