"""Who owns which partition, and who keeps a copy of it: equal shares, and as little moved as equal shares allow. Pure.

A partition that moves costs its new owner a recovery, and everybody the wait for it. So whoever owns one keeps it while that is within a
fair share; one that has to move goes to a worker that has a copy of it, if any has room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    """What a worker says that it has: what it owns until now, and of what else it has a copy."""

    actives: frozenset[int] = frozenset()
    copies: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Share:
    """What a worker is to own, and what it is to keep a copy of."""

    actives: frozenset[int]
    standbys: frozenset[int]


def place(partitions: int, members: Mapping[str, Held], replicas: int) -> dict[str, Share]:
    """Each worker's share, by name. The same for the same arguments, whoever asks.

    Shares of partitions owned differ by one at most, so do those of standbys, and no more partitions change their owner than that takes
    (of those that two workers say they own, which happens after a pause, the first by name counts as the owner). Each partition has
    ``replicas`` standbys, or as many as there are other workers, none of them its owner.
    """
    actives = _actives(partitions, members)
    standbys = _standbys(partitions, members, actives, min(replicas, len(members) - 1))
    return {name: Share(frozenset(actives[name]), frozenset(standbys[name])) for name in sorted(members)}


def _actives(partitions: int, members: Mapping[str, Held]) -> dict[str, set[int]]:
    kept: dict[str, set[int]] = {}
    unowned = set(range(partitions))
    for name in sorted(members):
        kept[name] = unowned & members[name].actives
        unowned -= kept[name]
    floor, ones_more = divmod(partitions, len(members))
    by_load = sorted(kept, key=lambda name: (-len(kept[name]), name))
    room = {name: floor + (rank < ones_more) - len(kept[name]) for rank, name in enumerate(by_load)}

    def hand(partition: int, among: list[str]) -> None:
        taker = min(among, key=lambda name: (-room[name], name))
        kept[taker].add(partition)
        room[taker] -= 1

    def with_a_copy(partition: int) -> list[str]:
        return [name for name in kept if room[name] > 0 and partition in members[name].copies]

    # Those that few could take go first.
    for partition in sorted(unowned, key=lambda p: (len(with_a_copy(p)), p)):
        if among := with_a_copy(partition):
            hand(partition, among)
            unowned.discard(partition)
    for giver in by_load:
        for partition in sorted(kept[giver], key=lambda p: (len(with_a_copy(p)), p)):
            if room[giver] < 0 and (among := with_a_copy(partition)):
                kept[giver].discard(partition)
                room[giver] += 1
                hand(partition, among)
        while room[giver] < 0:
            unowned.add(partition := max(kept[giver]))
            kept[giver].discard(partition)
            room[giver] += 1
    for partition in sorted(unowned):
        hand(partition, [name for name in kept if room[name] > 0])
    return kept


def _standbys(partitions: int, members: Mapping[str, Held], actives: Mapping[str, set[int]], replicas: int) -> dict[str, set[int]]:
    standbys: dict[str, set[int]] = {name: set() for name in sorted(members)}
    most = -(-partitions * replicas // len(members))

    def could_take(partition: int) -> list[str]:
        return [name for name in standbys if partition not in actives[name] and partition not in standbys[name]]

    def load(name: str) -> tuple[int, str]:
        return len(standbys[name]), name

    missing = dict.fromkeys(range(partitions), replicas)
    for partition in missing:  # who has it already, in part as its owner until now
        warm = [name for name in could_take(partition) if partition in members[name].copies | members[name].actives]
        for name in sorted(warm, key=load):
            if missing[partition] and len(standbys[name]) < most:
                standbys[name].add(partition)
                missing[partition] -= 1
    for partition, count in missing.items():
        for _ in range(count):
            standbys[min(could_take(partition), key=load)].add(partition)
    while _even_out(standbys, could_take):
        pass
    return standbys


def _even_out(standbys: dict[str, set[int]], could_take: Callable[[int], list[str]]) -> bool:
    """Move one standby from a worker with many to one with at least two fewer; False when none can be."""
    for giver in sorted(standbys, key=lambda name: (-len(standbys[name]), name)):
        for partition in sorted(standbys[giver]):
            for taker in could_take(partition):
                if len(standbys[giver]) - len(standbys[taker]) > 1:
                    standbys[giver].discard(partition)
                    standbys[taker].add(partition)
                    return True
    return False
