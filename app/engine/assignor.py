"""Faust's group protocol with the engine's own placement, and workers that say at their first joining what they have on disk.

Faust's assignor fills workers up to the rounded-up share in turn: four partitions on three workers are two, two and none. And it knows of a
worker only what the group last gave it: one that comes back after a crash is given any partitions, not those that it has on disk.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from faust.assignor.client_assignment import ClientAssignment, ClientMetadata, CopartitionedAssignment
from faust.assignor.partition_assignor import PartitionAssignor

from app.engine.placement import Held, place


class EngineAssignor(PartitionAssignor):
    """Members of releases before it understand it, and it them."""

    @property
    def _metadata(self) -> ClientMetadata:
        told = super()._metadata
        if not (self._assignment.active_tps or self._assignment.standby_tps):
            on_disk = sorted(self._on_disk())
            told.assignment = ClientAssignment(actives={}, standbys={t.changelog_topic_name: on_disk for t in self.app.tables.values()})
        return told

    def _on_disk(self) -> set[int]:
        """Partitions of which a copy of every table is here."""
        on_disk = [table.store.on_disk() for table in self.app.tables.values()]
        return set.intersection(*on_disk) if on_disk else set()

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        told = {member: self._get_client_metadata(metadata) for member, metadata in member_metadata.items()}
        self._update_member_urls(told)
        subscribers: dict[str, set[str]] = defaultdict(set)
        for member, metadata in member_metadata.items():
            for topic in metadata.subscription:
                subscribers[topic].add(member)
        # What has as many partitions and the same subscribers is placed together.
        groups: dict[tuple[int, tuple[str, ...]], set[str]] = defaultdict(set)
        for topic, members in subscribers.items():
            if count := len(cluster.partitions_for_topic(topic) or ()):
                groups[count, tuple(sorted(members))].add(topic)
        assignments = {member: ClientAssignment(actives={}, standbys={}) for member in member_metadata}
        group_of = {}
        for number, ((count, members_of_group), topics) in enumerate(sorted(groups.items(), key=lambda group: group[0])):
            named = {f"{told[member].url} {member}": member for member in members_of_group}
            shares = place(count, {name: _held(told[member], topics) for name, member in named.items()}, self.replicas)
            for name, share in shares.items():
                assignments[named[name]].add_copartitioned_assignment(
                    CopartitionedAssignment(set(share.actives), set(share.standbys), topics)
                )
            group_of.update(dict.fromkeys(topics, number))
        return self._protocol_assignments(
            assignments, self._get_changelog_distribution(assignments), self._get_external_topic_distribution(assignments), group_of
        )


def _held(told: ClientMetadata, topics: set[str]) -> Held:
    held = told.assignment.copartitioned_assignment(topics)
    return Held(frozenset(held.actives), frozenset(held.standbys))
