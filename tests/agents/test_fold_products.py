"""What the shop says of its products reaches the table, once, and what cannot be applied reaches the dead-letter topic with its place."""

from __future__ import annotations

import pytest

from app.domain.product_validation import (
    MAX_ATTRIBUTE_TEXT_BYTES,
    MAX_ATTRIBUTE_VALUES,
    MAX_CATEGORIES,
    MAX_CATEGORY_BYTES,
    MAX_PRODUCT_ATTRIBUTES,
    MAX_URL_BYTES,
    validate_product,
)
from app.engine.fence import MAX_BATCH_BYTES
from app.settings import WorkerSettings
from app.streams.publisher import partition_of
from tests.agents.worlds import NAMES, NOW_MS, ProductsBench, Record, bad_record, gone, product_records
from tests.unit.domain.product_worlds import change, full
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.products.v1.product_pb2 import AttributeValues, Product


async def test_full_records_and_changes_are_folded_in_the_order_of_the_topic() -> None:
    bench = ProductsBench()
    changes = change("shoe", price=899), change("shoe", in_stock=False)
    bench.feed(product_records(full("shoe", 999, title="Shoe"), full("hat", 500), *changes))

    shoe, hat = bench.entry("shoe"), bench.entry("hat")
    assert (shoe.product.title, shoe.product.price.minor_units, list(shoe.price_minor_units)) == ("Shoe", 899, [999, 899])
    assert list(shoe.price_changed_at_ms) == [NOW_MS, NOW_MS + 2]
    assert shoe.out_of_stock_since_ms == NOW_MS + 3
    assert hat.is_listed
    assert not bench.dead_letters()


async def test_a_record_that_says_nothing_new_is_not_written() -> None:
    bench = ProductsBench()
    bench.feed(product_records(full("shoe", 999)))
    written = bench.state.bytes_by_key[b"shoe"]

    bench.feed(product_records(full("shoe", 999), change("shoe", price=999), first_offset=1))

    assert bench.state.bytes_by_key[b"shoe"] is written, "the very object: encoding it again makes another"


async def test_a_record_without_a_value_takes_the_product_out_of_the_table() -> None:
    bench = ProductsBench()
    bench.feed([*product_records(full("shoe", 999), full("hat")), gone(b"shoe", 2)])
    assert bench.entry("shoe") is None
    assert bench.entry("hat") is not None

    bench.feed(product_records(full("shoe", 899), first_offset=3))
    assert list(bench.entry("shoe").price_minor_units) == [899]


async def test_a_change_after_the_product_is_gone_does_not_bring_it_back() -> None:
    bench = ProductsBench()
    bench.feed([*product_records(full("shoe", 999)), gone(b"shoe", 1), *product_records(change("shoe", price=899), first_offset=2)])
    assert not bench.entry("shoe").is_listed


async def test_forgetting_the_record_of_a_change_does_not_undo_it_and_forgetting_what_was_never_there_is_no_error() -> None:
    bench = ProductsBench()
    bench.feed([*product_records(full("shoe", 999), change("shoe", price=899)), gone(b"shoe\x1fprice", 2), gone(b"hat", 3), gone(b"", 4)])
    assert bench.entry("shoe").product.price.minor_units == 899
    assert not bench.dead_letters()


@pytest.mark.parametrize(
    ("key", "value", "reason", "field"),
    [
        (b"shoe", b"\xff\xff", "UNDECODABLE", ""),
        (b"shoe", b"", "INVALID", "product_id"),
        (b"", full("shoe").SerializeToString(), "INVALID", "product_id"),
        (None, full("shoe").SerializeToString(), "INVALID", "product_id"),
        (b"\xff", full("shoe").SerializeToString(), "INVALID", "product_id"),
        (b"hat", full("shoe").SerializeToString(), "INVALID", "product_id"),
        (b"__owner", full("__owner").SerializeToString(), "INVALID", "product_id"),
        (b"shoe", change("shoe", price=5).SerializeToString(), "INVALID", "changed_fields"),
        (b"shoe", full("shoe", -1).SerializeToString(), "INVALID", "price.minor_units"),
        (b"shoe", b"\x0a" * (1 << 20), "UNDECODABLE", ""),
    ],
)
async def test_a_bad_record_becomes_a_dead_letter_with_its_place_and_the_next_one_is_applied(
    key: bytes | None, value: bytes, reason: str, field: str
) -> None:
    bench = ProductsBench()
    bench.feed([bad_record(value, 7, key, NAMES.products), *product_records(full("hat"), first_offset=8)])

    (letter,) = bench.dead_letters()
    assert (letter.topic, letter.partition, letter.offset, letter.key, letter.value) == (NAMES.products, 0, 7, key or b"", value)
    assert (DeadLetterReason.Name(letter.reason).removeprefix("DEAD_LETTER_REASON_"), letter.field) == (reason, field)
    assert list(bench.state.bytes_by_key) == [b"hat"]


async def test_a_record_in_another_partition_than_its_ids_becomes_a_dead_letter() -> None:
    here = next(f"p{n}" for n in range(99) if partition_of(f"p{n}".encode(), 4) == 0)
    away = next(f"p{n}" for n in range(99) if partition_of(f"p{n}".encode(), 4) == 1)
    bench = ProductsBench(home=partition_of)

    bench.feed([*product_records(full(here), full(away), change(away, price=5), change(here, price=5)), gone(away.encode(), 4)])

    assert [(letter.offset, letter.field) for letter in bench.dead_letters()] == [(1, "product_id"), (2, "product_id"), (4, "product_id")]
    assert bench.entry(here).product.price.minor_units == 5
    assert list(bench.state.bytes_by_key) == [here.encode()]


async def test_a_replayed_batch_is_not_applied_again() -> None:
    bench = ProductsBench()
    records = product_records(full("shoe", 999), change("shoe", price=899))
    bench.feed(records)
    before = dict(bench.state.bytes_by_key)

    bench.feed([], replayed=records)

    assert bench.state.bytes_by_key == before


async def test_a_products_change_is_dated_by_its_receipt_where_it_says_nothing() -> None:
    bench = ProductsBench()
    bench.feed([Record(NAMES.products, 0, 0, NOW_MS + 123, b"shoe", full("shoe").SerializeToString())])
    assert bench.entry("shoe").listed_at_ms == NOW_MS + 123


def test_the_largest_product_fits_a_changelog_batch_beside_a_full_unit() -> None:
    values = AttributeValues(values=["v" * MAX_ATTRIBUTE_TEXT_BYTES] * MAX_ATTRIBUTE_VALUES)
    largest = Product(
        product_id="p" * 128, title="t" * 512, url="https://" + "x" * (MAX_URL_BYTES - 8), image_url="https://" + "x" * (MAX_URL_BYTES - 8),
        categories=["c" * MAX_CATEGORY_BYTES] * MAX_CATEGORIES, brand="b" * 128,
        attributes={f"{n:064}": values for n in range(MAX_PRODUCT_ATTRIBUTES)},
    )  # fmt: skip
    assert validate_product(largest) is None
    assert WorkerSettings().batch_max_bytes + 2 * largest.ByteSize() < MAX_BATCH_BYTES
