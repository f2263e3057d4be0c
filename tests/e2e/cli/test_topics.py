"""`tidings topics` makes what is missing, changes nothing, and says what Tidings cannot run on."""

from __future__ import annotations

import asyncio
import json

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.streams.topics import TopicNames, topic_specs

from .conftest import Installation, on_kafka_alone


def findings(installation: Installation, *arguments: str) -> dict[str, str]:
    result = installation.tidings("topics", *arguments, "--json")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    return {document["topic"]: document["kind"] for document in documents}


async def make(installation: Installation, *topics: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.settings.kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics(list(topics))
    await admin.close()


def test_missing_topics_are_created_and_a_second_run_changes_nothing(installation: Installation) -> None:
    names = {spec.name for spec in topic_specs(installation.settings.kafka)}
    assert findings(installation, "check") == dict.fromkeys(names, "missing")
    assert installation.tidings("topics", "check").exit_code == 1
    assert findings(installation, "create") == dict.fromkeys(names, "created")
    assert findings(installation, "create") == dict.fromkeys(names, "present")
    assert installation.tidings("topics", "check").exit_code == 0


def test_a_topic_with_other_partitions_is_refused_with_both_numbers(installation: Installation) -> None:
    events = TopicNames.of(installation.settings.kafka).events
    asyncio.run(make(installation, NewTopic(events, 5, 1)))
    result = installation.tidings("topics", "create")
    assert result.exit_code == 1
    assert f"{events}: has 5 partitions, but kafka.partitions is 3" in result.output


@on_kafka_alone
def test_topics_have_their_settings_on_kafka(installation: Installation) -> None:
    installation.tidings("topics", "create")
    specs = topic_specs(installation.settings.kafka)

    async def described() -> dict[str, dict[str, str]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=installation.settings.kafka.bootstrap_servers)
        await admin.start()
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs])
        await admin.close()
        return {resource[3]: {entry[0]: entry[1] for entry in resource[4]} for answer in answers for resource in answer.resources}

    actual = asyncio.run(described())
    for spec in specs:
        assert {key: actual[spec.name][key] for key in spec.configs} == spec.configs
    changelog = actual[TopicNames.of(installation.settings.kafka).changelogs["profiles"]]
    assert changelog["cleanup.policy"] == "compact"


@on_kafka_alone
def test_a_changelog_that_kafka_would_forget_is_refused(installation: Installation) -> None:
    changelog = TopicNames.of(installation.settings.kafka).changelogs["profiles"]
    asyncio.run(make(installation, NewTopic(changelog, 3, 1, topic_configs={"cleanup.policy": "delete"})))
    result = installation.tidings("topics", "create")
    assert result.exit_code == 1
    assert f"{changelog}: cleanup.policy is delete" in result.output
