"""Each worker's copy of the catalog: it follows its changelog, goes on where it was, and is made again where that cannot be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.catalog import NEVER_MS
from app.errors import StateError, TidingsError
from app.streams.catalog import MAX_AGE_MS, SLICE_RECORDS
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.catalog_worlds import NOON_MS, Changelog, following, new_copy
from tests.e2e.engine_worlds import admin_of, make_topics, own_name, writer_of
from tests.e2e.waiting import until
from tests.unit.domain.product_worlds import change, full

#: As long as a broker takes to be replaced, and longer than a fetch waits.
AWAY_SECONDS = 20
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
async def changelog(broker: Any) -> AsyncIterator[Changelog]:
    name = own_name("catalog")
    await make_topics(broker, name)
    async with writer_of(broker, name, name, allow_unfenced=type(broker).__name__ == "EmbeddedBroker") as writer:
        await writer.own({0, 1})
        yield Changelog(broker, name, writer, partitions=2)


async def test_a_copy_holds_what_its_changelog_says_and_follows_changes_and_deletions(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(*(full(f"p{n}", n, title=f"Shoe {n}") for n in range(50)), change("unlisted", price=5))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        assert copy.products() == changelog.products()
        assert copy.count == 50
        assert copy.product("unlisted") is None

        await changelog.write(change("p7", price=700), change("unlisted", title="Hat"), full("p99", 99))
        await changelog.delete("p8", "p9", "never there")
        await until(lambda: copy.products() == changelog.products(), 5, "the changes in the copy")
        assert (copy.product("p7").price, copy.product("p8"), copy.count) == (700, None, 49)


async def test_an_empty_changelog_makes_an_empty_catalog_that_is_current(changelog: Changelog, tmp_path: Path) -> None:
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        assert copy.is_empty
        assert copy.product("p1") is None
        await changelog.write(change("p1", price=5))
        await changelog.write(full("p2"))
        await until(lambda: not copy.is_empty, 5, "a product in the copy")
        await changelog.delete("p2")
        await until(lambda: copy.is_empty, 5, "an empty catalog again")


async def test_a_product_is_the_same_object_until_it_changes(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(full("p1", 10), full("p2", 10))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        first, second = copy.product("p1"), copy.product("p2")
        assert copy.product("p1") is first
        await changelog.write(change("p1", price=9))
        await until(lambda: copy.product("p1") is not first, 5, "the changed product")
        assert copy.product("p1").price == 9
        assert copy.product("p2") is second


async def test_no_more_products_are_kept_decoded_than_the_bound_says(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(*(full(f"p{n}", n) for n in range(500)))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy", cache_products=100)) as copy:
        for n in range(1_000):
            product = copy.product(f"p{n}")
            assert (product is None) == (n >= 500)
            assert len(copy._young) + len(copy._old) <= 100
        hot = copy.product("p0")
        for n in range(1, 40):
            copy.product(f"p{n}")
        assert copy.product("p0") is hot


async def test_the_newest_come_first_overall_and_by_category(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(
        full("old", published_at_ms=NOON_MS - 9 * DAY_MS, categories=["Shoes", "Sale"]),
        full("new", published_at_ms=NOON_MS - DAY_MS, categories=["Shoes"]),
        full("b", categories=["Hats"]),
        full("a", categories=["Hats", "Hats"]),
        full("tomorrow", published_at_ms=NOON_MS + DAY_MS, categories=["Shoes"]),
        full("never", published_at_ms=NEVER_MS, categories=["Shoes"]),
        at_ms=NOON_MS,  # when those were listed that do not say when they are published
    )
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        assert copy.newest(10) == ["tomorrow", "a", "b", "new", "old"]
        assert copy.newest(2) == ["tomorrow", "a"]
        assert copy.newest(3, until_ms=NOON_MS) == ["a", "b", "new"]
        assert copy.newest(0) == copy.newest(-1) == []
        assert copy.in_category("Shoes", 10) == ["tomorrow", "new", "old"]
        assert copy.in_category("Shoes", 10, until_ms=NOON_MS) == ["new", "old"]
        assert copy.in_category("Hats", 10) == ["a", "b"]
        assert copy.in_category("Sho", 10) == copy.in_category("", 10) == []

        await changelog.write(change("old", categories=["Shoes"], published_at_ms=NOON_MS + 1), change("new", price=5))
        await changelog.delete("a")
        await until(lambda: copy.newest(10) == ["tomorrow", "old", "b", "new"], 5, "another order")
        assert copy.in_category("Shoes", 10) == ["tomorrow", "old", "new"]
        assert copy.in_category("Hats", 10) == ["b"]
        assert copy.in_category("Sale", 10) == []


async def test_a_list_is_asked_of_the_disk_again_only_when_its_order_changed(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(full("p1", 10, categories=["Shoes"]), full("p2", 10, categories=["Hats"]))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        shoes, hats, all_of_them = copy.in_category("Shoes", 5), copy.in_category("Hats", 5), copy.newest(5)
        await changelog.write(change("p1", price=9, in_stock=False))
        await until(lambda: copy.product("p1").price == 9, 5, "the price")
        assert copy.newest(5) is all_of_them
        await changelog.write(change("p1", categories=["Shoes", "Sale"]))
        await until(lambda: copy.in_category("Sale", 5) == ["p1"], 5, "the category")
        assert copy.in_category("Hats", 5) is hats
        assert copy.in_category("Shoes", 5) == shoes


async def test_a_restart_goes_on_where_the_copy_was(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(*(full(f"p{n}", n) for n in range(50)))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")):
        pass
    await changelog.write(change("p1", price=100))
    await changelog.delete("p2")

    taken: list[int] = []
    again = new_copy(changelog.broker, changelog.name, tmp_path / "copy")
    take_over = again._take_over

    def counting(database: Any, got: Any) -> None:
        taken.append(sum(len(records) for records in got.values()))
        take_over(database, got)

    again._take_over = counting  # type: ignore[method-assign]  # looked at, not replaced
    async with following(again) as copy:
        assert copy.products() == changelog.products()
        assert sum(taken) <= 2 * 2 + 2, "two changes with their marks, and the last record of each partition again"


async def test_nothing_is_lost_between_two_looks_at_a_long_changelog(changelog: Changelog, tmp_path: Path) -> None:
    """Several slices, and a process that ends after any of them."""
    count = 3 * SLICE_RECORDS
    await changelog.write(*(full(f"p{n}", n, categories=[f"c{n % 7}"]) for n in range(count)))
    for _ in range(50):
        copy = new_copy(changelog.broker, changelog.name, tmp_path / "copy")
        task = asyncio.create_task(copy.follow())
        database = await until(lambda copy=copy: copy._database, 20, "an open copy", every_seconds=0.001)
        before = dict(database.places)
        await until(
            lambda copy=copy, before=before: copy._database.places != before or copy.caught_up.is_set(), 20, "a slice", every_seconds=0.001
        )
        done = copy.caught_up.is_set()
        task.cancel()
        await asyncio.wait({task})
        listed = copy.products()
        assert copy.count == len(listed)
        assert sorted(copy.newest(count)) == sorted(listed)
        assert sorted(copy.in_category("c3", count)) == sorted(p for p, product in listed.items() if "c3" in product.categories)
        copy.close()
        if done:
            break
    assert done
    assert listed == changelog.products()


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("partitions", {"partitions": 1}),
        ("age", {"clock": lambda: NOON_MS + MAX_AGE_MS + DAY_MS}),
        ("clock that went back", {"clock": lambda: NOON_MS - MAX_AGE_MS - DAY_MS}),
    ],
)
async def test_a_copy_that_cannot_be_trusted_is_made_again(what: str, other: dict[str, Any], changelog: Changelog, tmp_path: Path) -> None:
    await changelog.write(full("p1", 1), full("p2", 2), full("p3", 3))
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy", clock=lambda: NOON_MS)) as copy:
        # The changelog has forgotten that these are gone, or never knew them.
        copy._database.write({b"ghost": changelog.entries["p1"].SerializeToString()}, {}, NOON_MS)
        assert copy.count == 4
    again = new_copy(changelog.broker, changelog.name, tmp_path / "copy", **other)
    async with following(again) as copy:
        held = {p: product for p, product in changelog.products().items() if what != "partitions" or p in copy.products()}
        assert copy.products() == held
        assert copy.product("ghost") is None


@pytest.mark.parametrize("damage", ["no CURRENT", "noise in a table", "no place"])
async def test_a_damaged_copy_is_made_again(changelog: Changelog, damage: str, tmp_path: Path) -> None:
    await changelog.write(*(full(f"p{n}", n) for n in range(50)))
    for _ in range(2):  # what is in the log at first is in a table then
        async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
            database = copy._database
            assert database is not None
            if damage == "no place":
                database._db._db.delete(b"__link/" + bytes(8))
    match damage:
        case "no CURRENT":
            (tmp_path / "copy" / "CURRENT").unlink()
        case "noise in a table":
            for table in (tmp_path / "copy").glob("*.sst"):
                table.write_bytes(b"!" * table.stat().st_size)
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        assert copy._database is not None
        assert copy._database._db.thrown_away
        assert copy.products() == changelog.products()


async def test_a_copy_of_another_application_is_made_again(changelog: Changelog, broker: Any, tmp_path: Path) -> None:
    await changelog.write(full("p1", 1), full("p2", 2))
    async with following(new_copy(broker, changelog.name, tmp_path / "copy")):
        pass
    other = own_name("catalog")
    await make_topics(broker, other)
    async with following(new_copy(broker, other, tmp_path / "copy")) as copy:
        assert copy.is_empty


async def test_a_copy_of_a_topic_that_was_made_anew_is_made_again(changelog: Changelog, broker: Any, tmp_path: Path) -> None:
    if type(broker).__name__ == "EmbeddedBroker":
        pytest.skip("the embedded broker keeps nothing over a restart, and is restarted, not cleared")
    await changelog.write(*(full(f"p{n}", n) for n in range(20)))
    async with following(new_copy(broker, changelog.name, tmp_path / "copy")):
        pass
    for count in (0, 3, 40):  # nothing, less and more than there was
        async with admin_of(broker) as admin:
            await admin.delete_topics([changelog.name])
        await until(lambda: _made(broker, changelog.name), 20, "the topic again")
        async with writer_of(broker, own_name(), changelog.name) as writer:
            await writer.own({0, 1})
            anew = Changelog(broker, changelog.name, writer, partitions=2)
            if count:
                await anew.write(*(full(f"q{n}", n) for n in range(count)))
            async with following(new_copy(broker, changelog.name, tmp_path / "copy")) as copy:
                assert copy.products() == anew.products()


async def _made(broker: Any, name: str) -> bool:
    try:
        await make_topics(broker, name)
    except AssertionError:
        return False  # its end is under way
    return True


async def test_two_processes_cannot_share_a_copy(changelog: Changelog, tmp_path: Path) -> None:
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")):
        with pytest.raises(StateError, match="another process"):
            await new_copy(changelog.broker, changelog.name, tmp_path / "copy").follow()


async def test_the_engines_own_marks_are_no_products(changelog: Changelog, tmp_path: Path) -> None:
    await changelog.mark(0)
    await changelog.mark(1)
    async with following(new_copy(changelog.broker, changelog.name, tmp_path / "copy")) as copy:
        assert copy.is_empty
        assert copy.product("__mark/products") is None


@pytest.mark.kafka
async def test_while_the_broker_is_away_the_copy_answers_as_it_is_and_then_goes_on(own_apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    name = own_name("catalog")
    await make_topics(own_apache_kafka, name)
    async with writer_of(own_apache_kafka, name, name) as writer:
        await writer.own({0, 1})
        changelog = Changelog(own_apache_kafka, name, writer, partitions=2)
        await changelog.write(*(full(f"p{n}", n) for n in range(20)))
        async with following(new_copy(own_apache_kafka, name, tmp_path / "copy")) as copy:
            await asyncio.to_thread(own_apache_kafka.stop)
            await asyncio.sleep(AWAY_SECONDS)
            assert copy.products() == changelog.products()

            # One that starts meanwhile waits, and is not current.
            other = new_copy(own_apache_kafka, name, tmp_path / "other")
            waiting = asyncio.create_task(other.follow())
            await asyncio.sleep(2)
            assert not waiting.done()
            assert not other.caught_up.is_set()

            await asyncio.to_thread(own_apache_kafka.start)
            await until(lambda: _written(changelog), 60, "a broker that takes records")
            for one in (copy, other):
                await until(lambda one=one: one.products() == changelog.products(), 60, "the change in the copy")
            await asyncio.wait_for(other.caught_up.wait(), 10)
            waiting.cancel()
            await asyncio.wait({waiting})
            other.close()


async def _written(changelog: Changelog) -> bool:
    try:
        await changelog.write(change("p3", price=333), full("p99", 99))
    except TidingsError:
        return False
    return True
