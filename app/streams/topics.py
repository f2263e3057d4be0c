"""The topics and changelogs of Tidings, declared once: partitions, replication and what Kafka may forget.

``create_topics`` makes what is missing and changes nothing that exists; ``check_topics`` compares.
Both work on Apache Kafka and on the embedded broker, which knows no topic settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

from app.errors import BrokerError
from app.settings import KafkaSettings
from app.streams.broker_refusal import why_refused
from app.streams.kafka_client import kafka_client

#: The tables; each has a changelog, co-partitioned with its source topics.
TABLES = ("profiles", "items", "neighbours", "outbox", "products")

_DAY_MS = 24 * 3600 * 1000
#: How long a compacted topic keeps telling that a product is gone: whoever was away for less learns of it.
PRODUCT_TOMBSTONES_MS = 7 * _DAY_MS
_MIB = 1024 * 1024
#: Larger than any flush of a table: worker.batch_max_bytes is at most 6 MB.
_CHANGELOG_MAX_BYTES = 8 * _MIB
_CHANGELOG_CONFIGS = {"products": {"delete_retention_ms": PRODUCT_TOMBSTONES_MS}}
#: A dead letter holds a whole record (at most 1 MiB) and what is wrong with it; what workers send each other travels in batches.
_INTERNAL_MAX_BYTES = 4 * _MIB

_TOPIC_EXISTS = 36
#: Of one request to the broker, beyond its own time-out.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class TopicSpec:
    """One topic as it must be. ``configs`` are Kafka's own topic settings; ``what`` says in a sentence what it holds."""

    name: str
    what: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicFinding:
    """How one topic stands. ``broken`` means that Tidings cannot run on it; the rest are remarks on what an operator may have tuned."""

    topic: str
    kind: Literal["created", "present", "missing", "partitions", "config"]
    detail: str = ""
    broken: bool = False


@dataclass(frozen=True)
class TopicNames:
    """The names: topics are <prefix>.<name>.v1, changelogs <application id>-<table>-changelog."""

    events: str
    visits: str
    neighbours: str
    updates: str
    shares: str
    products: str
    delivery_commands: str
    destinations: str
    dead_letters: str
    changelogs: Mapping[str, str]

    @classmethod
    def of(cls, kafka: KafkaSettings) -> TopicNames:
        return cls(
            **{name: f"{kafka.topic_prefix}.{name.replace('_', '-')}.v1" for name in cls.__dataclass_fields__ if name != "changelogs"},
            changelogs={table: f"{kafka.application_id}-{table}-changelog" for table in TABLES},
        )


def topic_specs(kafka: KafkaSettings) -> list[TopicSpec]:
    """Every topic that a worker with these settings reads or writes, sources first."""
    names = TopicNames.of(kafka)

    def spec(name: str, what: str, cleanup_policy: str, **configs: str | int) -> TopicSpec:
        given = {"cleanup.policy": cleanup_policy, "min.insync.replicas": str(kafka.min_insync_replicas)}
        given |= {key.replace("_", "."): str(value) for key, value in configs.items()}
        return TopicSpec(name, what, kafka.partitions, kafka.replication_factor, given)

    # The broker's clock, so that no client's wrong one decides when an event is forgotten or how long its answer took.
    clock = {"message_timestamp_type": "LogAppendTime"}
    batches = {"max_message_bytes": _INTERNAL_MAX_BYTES}
    return [
        spec(names.events, "what people did, by user", "delete", retention_ms=7 * _DAY_MS, **clock),
        spec(names.visits, "what events teach about items, by item", "delete", retention_ms=3 * _DAY_MS, **batches),
        spec(names.neighbours, "what items answer, by user", "delete", retention_ms=3 * _DAY_MS, **batches),
        # A new reader finds the latest list of everyone; a person who is gone is forgotten after a month.
        spec(names.updates, "lists that changed, by user", "compact,delete", retention_ms=30 * _DAY_MS, **batches),
        spec(names.shares, "each partition's share of the global models", "compact", **batches),
        spec(names.products, "what the shop sells, by product", "compact", delete_retention_ms=PRODUCT_TOMBSTONES_MS, **clock),
        spec(names.delivery_commands, "what operators want sent again, or dropped, by user", "delete", retention_ms=7 * _DAY_MS, **clock),
        spec(names.destinations, "which destinations take nothing, and why", "compact"),
        spec(names.dead_letters, "records that could not be applied", "delete", retention_ms=30 * _DAY_MS, **batches),
        # Never deleted by age: the changelog is the state.
        *(
            spec(name, f"the {table} table", "compact", max_message_bytes=_CHANGELOG_MAX_BYTES, **_CHANGELOG_CONFIGS.get(table, {}))
            for table, name in names.changelogs.items()
        ),
    ]


async def create_topics(kafka: KafkaSettings) -> list[TopicFinding]:
    """Make the missing topics, then check all: one ``created`` for each one made, and what check_topics finds for the others.

    Raises BrokerError when the broker does not answer within the request time-out, or refuses.
    """
    async with _admin(kafka) as admin:
        before = await _partition_counts(admin, kafka)
        missing = [spec for spec in topic_specs(kafka) if spec.name not in before]
        if missing:
            await _create(admin, kafka, missing)
        created = {spec.name for spec in missing}
        found = await until_all_are_seen(lambda: _findings(admin, kafka), kafka.request_timeout_seconds)
        return [
            replace(finding, kind="created") if finding.kind == "present" and finding.topic in created else finding for finding in found
        ]


async def until_all_are_seen(ask: Callable[[], Awaitable[list[TopicFinding]]], seconds: float) -> list[TopicFinding]:
    """The first findings without a missing topic, or the last within the time: of several brokers, one that just started, or that is
    asked right after another has made a topic, does not know it yet.
    """
    deadline = monotonic() + seconds
    while True:
        found = await ask()
        if monotonic() > deadline or all(finding.kind != "missing" for finding in found):
            return found
        await asyncio.sleep(0.1)


async def check_topics(kafka: KafkaSettings) -> list[TopicFinding]:
    """How every topic stands; at least one finding for each. Raises BrokerError when the broker does not answer."""
    async with _admin(kafka) as admin:
        return await _findings(admin, kafka)


def require_sound(findings: Sequence[TopicFinding]) -> None:
    """Raise BrokerError naming every topic that Tidings cannot run on."""
    broken = [finding for finding in findings if finding.broken]
    if broken:
        raise BrokerError("the topics do not fit the settings:\n" + "\n".join(f"  - {f.topic}: {f.detail}" for f in broken))


async def _findings(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> list[TopicFinding]:
    specs = topic_specs(kafka)
    counts = await _partition_counts(admin, kafka)
    configs = await _configs(admin, kafka, [spec.name for spec in specs if spec.name in counts])
    findings: list[TopicFinding] = []
    for spec in specs:
        if spec.name not in counts:
            findings.append(TopicFinding(spec.name, "missing", "does not exist: run `tidings topics create`", broken=True))
        elif counts[spec.name] != spec.partitions:
            detail = (
                f"has {counts[spec.name]} partitions, but kafka.partitions is {spec.partitions}: set it to {counts[spec.name]}. "
                "Kafka can add partitions, but then users and products change theirs and their state stays behind"
            )
            findings.append(TopicFinding(spec.name, "partitions", detail, broken=True))
        else:
            differing = _differing(spec, configs.get(spec.name, {}))
            findings += differing or [TopicFinding(spec.name, "present", f"{spec.partitions} partitions")]
    return findings


def _differing(spec: TopicSpec, actual: Mapping[str, str]) -> list[TopicFinding]:
    return [
        # Whether a topic is compacted decides whether state survives; sizes and ages are the operator's.
        TopicFinding(spec.name, "config", f"{key} is {actual[key]}, Tidings creates it with {wanted}", broken=key == "cleanup.policy")
        for key, wanted in spec.configs.items()
        if key in actual and set(actual[key].split(",")) != set(wanted.split(","))
    ]


async def _create(admin: AIOKafkaAdminClient, kafka: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    topics = [NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=dict(spec.configs)) for spec in specs]
    answer = await _asked(kafka, admin.create_topics(topics, timeout_ms=int(kafka.request_timeout_seconds * 1000)))
    # Another worker may have been faster: a topic that exists by now is checked like any other.
    refused = [(topic, message or f"error {code}") for topic, code, message in answer.topic_errors if code not in (0, _TOPIC_EXISTS)]
    if refused:
        listed = "\n".join(f"  - {topic}: {why}" for topic, why in refused)
        raise BrokerError(f"the broker at {kafka.bootstrap_servers} refused to create\n{listed}")
    wanted = {spec.name for spec in specs}
    for _ in range(50):  # a created topic takes a moment to show in the metadata
        if wanted <= (await _partition_counts(admin, kafka)).keys():
            return
        await asyncio.sleep(0.1)
    raise BrokerError(f"the broker at {kafka.bootstrap_servers} created the topics but does not list them")


async def _partition_counts(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> dict[str, int]:
    # All topics, not ours by name: the embedded broker creates, with four partitions, whatever it is asked about.
    described = await _asked(kafka, admin.describe_topics())
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def _configs(admin: AIOKafkaAdminClient, kafka: KafkaSettings, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic settings by topic; nothing where the broker does not tell (the embedded one hangs up) or this client may not ask."""
    if not names:
        return {}
    try:
        answers = await asyncio.wait_for(
            admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]), kafka.request_timeout_seconds
        )
    except (KafkaError, TimeoutError):
        return {}
    # A resource is (error code, message, type, name, entries); an entry begins with (name, value).
    resources = [resource for answer in answers for resource in answer.resources if resource[0] == 0]
    return {resource[3]: {entry[0]: entry[1] for entry in resource[4]} for resource in resources}


@asynccontextmanager
async def _admin(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka_client(kafka))
    try:
        await _asked(kafka, admin.start())
        yield admin
    finally:
        await admin.close()


async def _asked(kafka: KafkaSettings, request: Any) -> Any:
    try:
        return await asyncio.wait_for(request, kafka.request_timeout_seconds + _GRACE_SECONDS)
    except (KafkaError, TimeoutError, OSError) as exc:
        # The latter: it refused a token, of which the client thinks that it was taken (broker_refusal.py).
        if isinstance(exc, KafkaConnectionError | NodeNotReadyError) and (refusal := await why_refused(kafka_client(kafka))):
            raise BrokerError(refusal) from exc
        said = str(exc) or type(exc).__name__
        where = f"Kafka at {kafka.bootstrap_servers}"
        raise BrokerError(f"no answer from {where} ({said}): is it running, and is kafka.bootstrap_servers right?") from exc
