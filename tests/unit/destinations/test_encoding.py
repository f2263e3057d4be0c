"""A list is written as a platform can hold it: by whole items, in texts, within its bytes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.destinations.encoding import (
    Item,
    as_array,
    as_joined_ids,
    as_json_string,
    as_slots,
    cut_text,
    email_of,
    iso_time,
    items_of,
    slot_names,
)
from app.destinations.outcomes import Rejected
from app.destinations.requests import Rendered
from app.domain.catalog import CatalogProduct
from tests.contract.people import ann
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.state.v1 import outbox_pb2
from tidings.updates.v1.update_pb2 import ReasonKind

THREE = [Item("a", title="Ä" * 10), Item("b"), Item("c,d", url="https://shop.example/c")]
items = st.lists(st.builds(Item, st.text(min_size=1, max_size=12), title=st.text(max_size=30)), max_size=8)


def shown(*products: CatalogProduct) -> Rendered:
    one = ann()
    del one.update.recommendations[:]
    for product in products:
        one.update.recommendations.add(product_id=product.product_id)
    return Rendered(one.update, one.profile, DictCatalog(products))


def test_an_item_says_what_the_catalog_says_and_an_unknown_product_has_its_id_and_empty_texts() -> None:
    found = items_of(ann(), 3)
    assert isinstance(found, list)
    mug, cup, pot = found
    assert mug == Item(
        "mug", "Red mug", "https://shop.example/mug", "", "12.99", "EUR", "14.99", "You viewed Blue cup; others who did also viewed this."
    )
    assert (cup.title, cup.price) == ("Blue cup", "")
    assert pot._replace(reason="") == Item("pot")
    assert all(isinstance(value, str) for item in found for value in item)


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [(1299, "EUR", "12.99"), (1299, "", "12.99"), (5, "USD", "0.05"), (0, "EUR", "0.00"), (1299, "JPY", "1299"), (1299, "KWD", "1.299")],
)
def test_money_is_in_major_units_with_the_decimals_of_its_currency(minor: int, currency: str, written: str) -> None:
    (item,) = items_of(shown(CatalogProduct("p", price=minor, list_price=minor, currency=currency)), 1)
    assert item.price == item.list_price == written


def test_no_more_items_are_taken_than_are_asked_for() -> None:
    assert [item.product_id for item in items_of(ann(), 2)] == ["mug", "cup"]


def test_an_item_whose_link_is_too_long_is_left_out_and_the_next_takes_its_place() -> None:
    long = CatalogProduct("long", url="https://shop.example/" + "x" * 300)
    pictured = CatalogProduct("pictured", title="T" * 300, image_url="https://" + "i" * 300, url="https://shop.example/p")
    found = items_of(shown(long, pictured), 1, value_bytes=255)
    assert [(item.product_id, item.image_url, len(item.title)) for item in found] == [("pictured", "", 255)]


def test_a_list_of_which_nothing_can_be_shown_is_rejected_and_an_empty_one_is_not() -> None:
    rejected = items_of(shown(CatalogProduct("x" * 300)), 5, value_bytes=255)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == outbox_pb2.DEAD_REASON_TOO_LARGE
    assert items_of(shown(), 5) == []


def test_titles_and_reasons_are_one_printable_line() -> None:
    one = shown(CatalogProduct("p", title="Red\nmug\x00 "), CatalogProduct("q"))
    one.update.recommendations[1].reason.kind = ReasonKind.REASON_KIND_SIMILAR
    one.update.recommendations[1].reason.because_of = "x\ny"
    first, second = items_of(one, 2)
    assert first.title == "Red mug"
    assert second.reason == "Similar to x y, which you looked at."


@given(items, st.integers(0, 400))
def test_an_array_has_whole_items_best_first_and_keeps_to_its_bytes(items: list[Item], room: int) -> None:
    kept = as_array(items, room)
    if isinstance(kept, Rejected):
        assert kept.reason == outbox_pb2.DEAD_REASON_TOO_LARGE
        assert all(len(orjson.dumps([item._asdict()])) > room for item in items)
    else:
        assert len(orjson.dumps(kept)) <= max(room, 2)
        order = iter(items)
        assert all(any(item._asdict() == one for item in order) for one in kept)


@given(items, st.integers(2, 400))
def test_a_json_text_keeps_to_its_bytes_and_reads_as_the_array(items: list[Item], room: int) -> None:
    written = as_json_string(items, room)
    if isinstance(written, str):
        assert len(written.encode()) <= room
        assert orjson.loads(written) == as_array(items, room)


@given(items, st.integers(0, 60))
def test_joined_ids_keep_to_their_bytes_and_read_as_ids_of_the_list(items: list[Item], room: int) -> None:
    written = as_joined_ids(items, room)
    if isinstance(written, str):
        assert len(written.encode()) <= room
        assert set(written.split(",")) <= {item.product_id for item in items} | {""}


def test_an_id_with_the_separator_in_it_is_not_joined() -> None:
    assert as_joined_ids(THREE, 100) == "a,b"
    assert as_joined_ids(THREE, 100, "|") == "a|b|c,d"
    assert isinstance(as_joined_ids(THREE[2:], 100), Rejected)


def test_all_slots_are_written_so_that_older_values_are_cleared() -> None:
    slots = as_slots([Item("a", "A", "https://a", "https://i", "1.00")], "rec", 2)
    assert slots == {
        "rec_1_id": "a", "rec_1_title": "A", "rec_1_url": "https://a", "rec_1_image": "https://i", "rec_1_price": "1.00",
        "rec_2_id": "", "rec_2_title": "", "rec_2_url": "", "rec_2_image": "", "rec_2_price": "",
    }
    assert list(slots) == list(slot_names("rec", 2))


@given(st.text(), st.integers(0, 40))
def test_a_text_is_cut_between_two_characters(text: str, room: int) -> None:
    cut = cut_text(text, room)
    assert len(cut.encode()) <= room
    assert text.startswith(cut)
    assert cut == text or len(text[: len(cut) + 1].encode()) > room


@pytest.mark.parametrize(("written", "email"), [("Ann@Example.COM", "ann@example.com"), (" a.b+c@x.example ", "a.b+c@x.example")])
def test_an_address_is_read_in_lower_case(written: str, email: str) -> None:
    assert email_of(addressed(written), "email") == email


@pytest.mark.parametrize(
    "written",
    ["", "ann", "ann@", "@x.example", "a@b@x.example", "a b@x.example", "a\n@x.example", "a\x00@x.example", "ann@localhost",
     "ann@x..example", "ann@x.example.", "<ann@x.example>", "a,b@x.example", "a" * 250 + "@x.example", "ä" * 125 + "@x.example"],
)
def test_what_is_no_address_is_no_identity(written: str) -> None:
    rejected = email_of(addressed(written), "email")
    assert isinstance(rejected, Rejected)
    assert rejected.reason == outbox_pb2.DEAD_REASON_NO_IDENTITY
    assert not written or written not in rejected.detail


def addressed(written: str) -> Rendered:
    one = ann()
    for attribute in one.profile.attributes:
        if attribute.name == "email":
            attribute.text = written
    return one


def test_a_time_is_written_to_the_second_and_one_that_is_none_is_empty() -> None:
    assert iso_time(1_795_341_600_999) == "2026-11-22T10:00:00Z"
    assert iso_time(0) == iso_time(-1) == iso_time(2**62) == ""
