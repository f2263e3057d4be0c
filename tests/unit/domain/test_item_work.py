"""The compiled work on items says what Python says, to the last bit, and leaves to Python whatever is unusual."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from app.domain.decay import HALF_LIFE_MS, WINDOW_MS
from app.domain.item_work import COMPILED, PLAIN, Askers, ItemWork, load
from app.domain.items import COUNT_BITS, KEPT_NEIGHBOURS, MAX_NEIGHBOURS, ItemState, decode_item, encode_item, neighbour_list, wire_ids
from app.domain.visit_records import encode_questions, encode_visits
from app.domain.visits import Visit
from tests.fuzz.mutation import mutated, mutated_message
from tests.unit.domain.event_worlds import NOON_MS
from tests.unit.domain.ranking_worlds import LETTERS
from tidings.internal.v1.visits_pb2 import Visits
from tidings.state.v1.item_pb2 import Item

compiled = pytest.mark.skipif(COMPILED is None, reason="it was not compiled: no C compiler at installation, or not installed since")
works = pytest.mark.parametrize("work", [PLAIN, pytest.param(COMPILED, marks=compiled)])


def names(random: Random, count: int) -> list[str]:
    """Ids that are the beginning of one another, of every length of UTF-8, some of more than 127 bytes."""
    return list(dict.fromkeys(f"{random.choice(LETTERS)}{random.choice(LETTERS)}{random.randrange(count)}" for _ in range(count)))


def any_visits(random: Random, products: list[str], offset: int, count: int) -> list[Visit]:
    made = []
    now = NOON_MS + random.choice([0, 0, 0, WINDOW_MS, -WINDOW_MS, 5 * WINDOW_MS, -NOON_MS - 1])
    for _ in range(count):
        offset += random.randrange(3)
        neighbours = tuple(random.choice(products) for _ in range(random.choice([0, 1, 1, 2, 5])))
        links = tuple(random.choice([0, 1, 1 << 20, random.randrange(1 << 40)]) for _ in neighbours)
        weight = random.choice([0, 1 << 20, random.randrange(1 << 36)])
        bought = tuple(random.choice(products) for _ in range(random.choice([0, 0, 0, 1, 5])))
        made.append(
            Visit(
                offset, random.choice(products[:4]), now + random.randrange(HALF_LIFE_MS), weight, random.choice(["", "ann", "bé"]),
                NOON_MS, neighbours, links, random.random() < 0.2, bought,
            )
        )  # fmt: skip
    return made


class World:
    """Items in a dict; every few records they are written and read again."""

    def __init__(self, work: ItemWork) -> None:
        self.work = work
        self.items: dict[bytes, Any] = {}
        self.applied = 0

    def tell(self, value: bytes, offset: int = 0) -> tuple[Any, ...]:
        """All that can be seen of it. ``offset``: what is before it was applied."""
        try:
            visits = self.work.read_visits(value)
        except DecodeError as exc:
            return ("refused", str(exc))
        visitors: Askers = {}
        questioners: Askers = {}
        questions, skipped, last = visits.ask(questioners), visits.skip(offset), None
        if fresh := len(visits):
            keys = visits.items()
            for key in keys:
                if key not in self.items:
                    self.items[key] = self.work.new(key)
            last = visits.apply([self.items[key] for key in keys], visitors)
        return visits.source_partition, questions, skipped, fresh, last, list(visitors.items()), list(questioners.items())

    def answers(self) -> dict[bytes, bytes]:
        return {key: self.work.neighbour_list(item) for key, item in self.items.items()}

    def rewrite(self) -> dict[bytes, bytes]:
        written = {key: self.work.encode(item) for key, item in self.items.items()}
        self.items = {key: self.work.decode(value) for key, value in written.items()}
        return written


@compiled
@pytest.mark.parametrize("seed", range(12))
def test_visits_change_and_answer_the_same_with_cuts_and_windows_and_in_the_middle_of_a_record(seed):
    random = Random(seed)
    products = names(random, random.choice([3, 40, 300]))
    plain, fast = World(PLAIN), World(COMPILED)
    offset, evicted = 0, 0
    for _ in range(40):
        visits = any_visits(random, products, offset, random.choice([1, 3, 200]))
        value = encode_visits(seed, visits)
        applied = random.choice([0, visits[0].source_offset + 1, visits[-1].source_offset, visits[-1].source_offset + 1])
        assert fast.tell(value, applied) == plain.tell(value, applied)
        asked = encode_questions(3, [("ann", random.choice(products), NOON_MS), ("ann", products[0], 0), ("bob", products[0], -1)])
        assert fast.tell(asked) == plain.tell(asked)
        assert fast.answers() == plain.answers()
        if random.random() < 0.5:
            assert fast.rewrite() == plain.rewrite()
        offset = visits[-1].source_offset
        evicted = max((item.evicted_count for item in plain.items.values()), default=0)
    assert (evicted > 0) == (len(products) > MAX_NEIGHBOURS)


def an_item(neighbours: dict[str, int] | None = None, **fields: int) -> bytes:
    item = ItemState("shoe", **({"visit_count": 1, "weight": 1 << 20, "window": 13, "last_visit_at_ms": NOON_MS} | fields))
    item.neighbours = {wire_ids([name])[0]: link for name, link in (neighbours or {}).items()}
    return encode_item(item)


@compiled
@pytest.mark.parametrize(
    "value",
    [
        b"",
        an_item({"a": 5 << COUNT_BITS | 2, "b": 5 << COUNT_BITS | 2, "": 5 << COUNT_BITS | 1}),
        an_item({f"{n:03d}": n % 7 << COUNT_BITS for n in range(MAX_NEIGHBOURS + 100)}),
        an_item({"a": (1 << 64 + COUNT_BITS) - 1}, weight=(1 << 64) - 1, window=-(1 << 31), last_visit_at_ms=-(1 << 63)),
        an_item({"a": 1 << COUNT_BITS}, window=(1 << 31) - 1, last_visit_at_ms=(1 << 63) - 1),
        an_item(window=0, last_visit_at_ms=1100 * HALF_LIFE_MS),
        an_item({"a": 1 << COUNT_BITS}, window=0, last_visit_at_ms=-1000 * HALF_LIFE_MS),
        an_item({"a": (1 << 63) << COUNT_BITS}, window=13, last_visit_at_ms=-200 * HALF_LIFE_MS),
        Item(product_id="shoe", neighbour_ids=["a", "b"], neighbour_weights=[1, 2]).SerializeToString(),
        Item(product_id="shoe", neighbour_ids=["a", "a"], neighbour_weights=[1, 2], neighbour_counts=[1, 1]).SerializeToString(),
        Item(product_id="shoe", bought_ids=["a", "b"], bought_counts=[3, 4]).SerializeToString(),
        Item(product_id="shoe", bought_evicted_count=3).SerializeToString(),
        Item(neighbour_ids=["a"], neighbour_weights=[1]).SerializeToString() * 2,
    ],
)
def test_an_item_at_the_limits_is_read_answered_and_written_the_same(value):
    assert COMPILED.encode(COMPILED.decode(value)) == encode_item(decode_item(value))
    try:
        said = neighbour_list(decode_item(value))
    except (ArithmeticError, ValueError) as exc:
        with pytest.raises(type(exc)):
            COMPILED.neighbour_list(COMPILED.decode(value))
    else:
        assert COMPILED.neighbour_list(COMPILED.decode(value)) == said


@works
@pytest.mark.parametrize("full", [{"weight": (1 << 64) - 1}, {"neighbours": {"a": (1 << 64 + COUNT_BITS) - 1}}])
def test_a_sum_that_outgrows_64_bits_is_never_written(work, full):
    world = World(work)
    world.items[b"shoe"] = work.decode(an_item(**full))
    world.tell(encode_visits(0, [Visit(1, "shoe", NOON_MS, 1 << 20, "", 0, ("a",), (0,))]))
    with pytest.raises(ValueError, match=r"64 bits|out of range"):
        world.rewrite()


@compiled
def test_a_count_that_outgrows_32_bits_goes_into_the_weight_as_in_python():
    value, visits = an_item({"a": (1 << COUNT_BITS) - 1}), encode_visits(0, [Visit(1, "shoe", NOON_MS, 1, "", 0, ("a",), (7,))])
    written = []
    for work in (PLAIN, COMPILED):
        world = World(work)
        world.items[b"shoe"] = work.decode(value)
        world.tell(visits)
        written.append(world.rewrite())
    assert written[0] == written[1]


def records() -> list[bytes]:
    random = Random(7)
    products = names(random, 12)
    made = [encode_visits(n % 3, any_visits(random, products, n, random.choice([1, 4, 30]))) for n in range(12)]
    return [*made, encode_questions(1, [("ann", "shoe", NOON_MS), ("ben", "hat", 3)])]


def same(kind: Any, corpus: list[bytes], seed: int, look: Callable[[ItemWork, bytes], Any]) -> None:
    """Of each input the same is seen, also of those that are damaged: as messages, and as bytes."""
    random = Random(seed)
    for number in range(400):
        value = mutated(corpus, random)
        if number % 2:
            value = mutated_message(kind, random.choice(corpus), random)
        assert look(COMPILED, value) == look(PLAIN, value), value


def seen_of_item(work: ItemWork, value: bytes) -> Any:
    try:
        item = work.decode(value)
    except DecodeError as exc:
        return str(exc)
    try:
        return work.encode(item), work.neighbour_list(item)
    except (ArithmeticError, ValueError) as exc:
        return work.encode(item), type(exc)


def seen_of_visits(work: ItemWork, value: bytes) -> Any:
    world = World(work)
    said = world.tell(value, 2)
    try:
        return said, world.rewrite()
    except ValueError:
        return said, "outgrown"


@compiled
@pytest.mark.parametrize("seed", range(3))
def test_damaged_items_and_visits_are_refused_in_the_same_words_or_read_the_same(seed):
    world = World(PLAIN)
    for value in records():
        world.tell(value)
    same(Item, [*world.rewrite().values(), an_item()], seed, seen_of_item)
    same(Visits, records(), seed, seen_of_visits)


@compiled
def test_visits_are_applied_to_their_items_alone():
    visits = COMPILED.read_visits(encode_visits(0, [Visit(1, "shoe", NOON_MS, 1, "ann", 5)]))
    item = COMPILED.new(b"shoe")
    for items, askers, error in (([item], {}, ValueError), ([], {}, ValueError), ((item,), {}, TypeError), ([item], [], TypeError)):
        with pytest.raises(error):
            visits.apply(items, askers)  # before items() says what they are, nothing is
    assert visits.items() == [b"shoe"]
    for items in ([], [item, item], [None], [decode_item(b"")]):
        with pytest.raises((ValueError, TypeError)):
            visits.apply(items, {})
    assert COMPILED.encode(item) == COMPILED.encode(COMPILED.new(b"shoe"))
    assert visits.apply([item], {}) == 1
    visits.skip(2)
    with pytest.raises(ValueError, match="at least one visit"):
        visits.apply([item], {})
    for wrong in (decode_item(b""), b"", None):
        with pytest.raises(TypeError):
            COMPILED.encode(wrong)
    for key in ("shoe", b"\xff"):
        with pytest.raises((TypeError, ValueError)):
            COMPILED.new(key)


@compiled
def test_an_item_takes_less_memory_than_a_table_counts_for_it():
    """With 300 bytes for its key, and the places of both in what keeps them."""
    for count in (0, 1, KEPT_NEIGHBOURS, MAX_NEIGHBOURS):
        for length in (1, 12, 128):
            value = an_item({f"{n:0{length}}": n << COUNT_BITS | 1 for n in range(min(count, 10**length))})
            assert sys.getsizeof(COMPILED.decode(value)) + 300 < COMPILED.object_bytes + COMPILED.decoded_factor * len(value)


@compiled
def test_nothing_is_left_behind():
    values = records()

    def work() -> None:
        world = World(COMPILED)
        for value in values:
            world.tell(value, 3)
        world.answers(), world.rewrite()
        for damaged in (b"\xff", values[0][:-1], values[0] + b"\x08", an_item() * 2):
            world.tell(damaged)
            seen_of_item(COMPILED, damaged)

    held = []
    for _ in range(4):
        for _ in range(5):
            work()
        gc.collect()
        held.append(sys.getallocatedblocks())
    assert held[-1] - held[1] < 5


def test_an_extension_that_does_not_fit_is_not_used():
    assert load("app.domain._nothing") is None
    assert load("json") is None
