"""Of several brokers, one may not know yet what another has made: it is asked again, for a while."""

from __future__ import annotations

from app.streams.topics import TopicFinding, until_all_are_seen

MISSING = [TopicFinding("a", "present", "4 partitions"), TopicFinding("b", "missing", "does not exist", broken=True)]
ALL = [TopicFinding("a", "present", "4 partitions"), TopicFinding("b", "present", "4 partitions")]


async def test_a_topic_that_shows_a_moment_later_is_not_missing() -> None:
    answers = iter([MISSING, ALL, MISSING])

    async def ask() -> list[TopicFinding]:
        return next(answers)

    assert await until_all_are_seen(ask, 5) == ALL


async def test_a_topic_that_never_shows_is_said_to_be_missing_when_the_time_is_over() -> None:
    async def ask() -> list[TopicFinding]:
        return MISSING

    assert await until_all_are_seen(ask, 0.2) == MISSING
