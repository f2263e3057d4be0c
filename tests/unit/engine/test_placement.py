"""Shares are equal, little moves, and what moves goes where a copy is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.placement import Held, Share, place


def held(shares: dict[str, Share]) -> dict[str, Held]:
    """What workers say when the group gave them these."""
    return {name: Held(share.actives, share.standbys) for name, share in shares.items()}


def owners(actives_of: Mapping[str, Share | Held]) -> dict[int, str]:
    return {partition: name for name, has in sorted(actives_of.items(), reverse=True) for partition in has.actives}


def moved(before: dict[str, Held], after: dict[str, Share]) -> set[int]:
    """Partitions whose owner changed, of those that had one."""
    now = owners(after)
    return {partition for partition, name in owners(before).items() if partition in now and now[partition] != name}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, dict[str, Held], int]:
    """Partitions, workers that say anything at all, replicas."""
    partitions = draw(st.integers(1, 24))
    some = st.frozensets(st.integers(0, partitions + 2), max_size=partitions)
    members = draw(st.dictionaries(st.sampled_from("abcdefgh"), st.builds(Held, some, some), min_size=1, max_size=8))
    return partitions, members, draw(st.integers(0, 3))


@given(worlds())
def test_every_partition_has_one_owner_and_shares_differ_by_one_at_most(world: tuple[int, dict[str, Held], int]) -> None:
    partitions, members, replicas = world
    shares = place(partitions, members, replicas)
    assert sorted(p for share in shares.values() for p in share.actives) == list(range(partitions))
    sizes = [len(share.actives) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(worlds())
def test_standbys_are_on_distinct_workers_that_do_not_own_the_partition(world: tuple[int, dict[str, Held], int]) -> None:
    partitions, members, replicas = world
    shares = place(partitions, members, replicas)
    for partition in range(partitions):
        keep = [name for name, share in shares.items() if partition in share.standbys]
        assert len(keep) == min(replicas, len(members) - 1)
    assert all(share.actives.isdisjoint(share.standbys) for share in shares.values())
    sizes = [len(share.standbys) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(worlds())
def test_no_more_moves_than_equal_shares_take(world: tuple[int, dict[str, Held], int]) -> None:
    partitions, members, replicas = world
    owned = [sum(1 for name in owners(members).values() if name == member) for member in members]
    before = {name: Held(frozenset(p for p, owner in owners(members).items() if owner == name and p < partitions)) for name in members}
    owned = sorted((len(has.actives) for has in before.values()), reverse=True)
    floor, ones_more = divmod(partitions, len(members))
    least = sum(max(0, count - floor - (rank < ones_more)) for rank, count in enumerate(owned))
    assert len(moved(before, place(partitions, members, replicas))) == least


@given(worlds())
def test_what_is_placed_stays_when_nothing_changes(world: tuple[int, dict[str, Held], int]) -> None:
    partitions, members, replicas = world
    shares = place(partitions, members, replicas)
    assert place(partitions, held(shares), replicas) == shares


@given(worlds(), st.randoms())
def test_the_same_workers_get_the_same_in_whatever_order_they_are_told_of(world: tuple[int, dict[str, Held], int], random: object) -> None:
    partitions, members, replicas = world
    names = list(members)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert place(partitions, {name: members[name] for name in names}, replicas) == place(partitions, members, replicas)


@settings(max_examples=60)
@given(st.integers(1, 24), st.integers(2, 6), st.integers(1, 2), st.lists(st.integers(0, 9), max_size=12))
def test_through_joins_and_leaves_a_dead_workers_partitions_go_to_their_standbys(
    partitions: int, workers: int, replicas: int, ends: list[int]
) -> None:
    """Workers leave one after another and others join: what the one that left owned goes to copies, as far as equal shares allow."""
    shares = place(partitions, {f"w{n}": Held() for n in range(workers)}, replicas)
    for step, end in enumerate(ends):
        now = held(shares)
        if end < 5 and len(now) > 1:
            gone = sorted(now)[end % len(now)]
            left = now.pop(gone)
            after = place(partitions, now, replicas)
            assert not moved(now, after), "who stays keeps what it has"
            cold = [p for p in left.actives if p not in now[owners(after)[p]].copies]
            with_room = {name for name in now if len(after[name].actives) > len(now[name].actives)}
            for partition in cold:
                assert not any(
                    partition in now[name].copies and name in with_room and not (after[name].actives - now[name].actives) & now[name].copies
                    for name in now
                ), "a worker with a copy took one of which it had none"
        else:
            now[f"n{step}"] = Held()
            after = place(partitions, now, replicas)
            assert all(owners(after)[p] == f"n{step}" for p in moved(now, after)), "all that moves goes to the one that joined"
            assert len(moved(now, after)) == partitions // len(now)
        shares = after


def test_four_partitions_on_three_workers_are_two_one_and_one() -> None:
    two = place(4, {"a": Held(), "b": Held()}, 1)
    three = place(4, {**held(two), "c": Held()}, 1)
    assert sorted(len(share.actives) for share in three.values()) == [1, 1, 2]
    assert len(moved(held(two), three)) == 1


def test_a_worker_that_comes_back_gets_what_it_has_on_disk() -> None:
    shares = place(6, {"a": Held(), "b": Held(), "c": Held()}, 1)
    without = place(6, {name: has for name, has in held(shares).items() if name != "b"}, 1)
    on_disk = shares["b"].actives | shares["b"].standbys
    again = place(6, {**held(without), "b": Held(copies=on_disk)}, 1)
    assert again["b"].actives | again["b"].standbys == on_disk


def test_of_two_that_say_they_own_a_partition_one_keeps_it() -> None:
    for names in permutations(("a", "b", "c")):
        shares = place(3, {name: Held(actives=frozenset({0, 1, 2})) for name in names}, 0)
        assert sorted(p for share in shares.values() for p in share.actives) == [0, 1, 2]
