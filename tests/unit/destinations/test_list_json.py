"""A list as JSON says what the message says, compiled or not, to the last byte."""

from __future__ import annotations

import json
import math
import tracemalloc
from random import Random

import pytest
from google.protobuf.message import DecodeError
from orjson import dumps as json_of

from app.destinations import list_json as module
from app.destinations.list_json import COMPILED, INTERFACE, MAX_PIECES, list_json, list_objects
from app.domain.catalog import NO_CATALOG, CatalogProduct
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

compiled = pytest.mark.skipif(COMPILED is None, reason="the extension was not compiled: no C compiler when Tidings was installed")
SCORES = (0.0, -0.0, 1.0, 0.1, 1e-9, 5e-324, 1e16, 1e300, -1.5, math.nan, math.inf, 1 / 3)
ODD_IDS = ("", "\"quoted\\", "".join(map(chr, range(0x80))), "ü €, 漢字, 🛒", "x" * 5000)


def an_update(chance: Random) -> RecommendationUpdate:
    update = RecommendationUpdate(user_id="ada", version=chance.randrange(1 << 60))
    for _ in range(chance.randrange(21)):
        one = update.recommendations.add(score=chance.choice(SCORES))
        one.product_id = chance.choice(ODD_IDS) if chance.random() < 0.2 else f"p{chance.randrange(50)}"
        if chance.random() < 0.9:
            one.reason.kind = chance.randrange(16)  # more than there are
            one.reason.because_of = chance.choice(["", f"p{chance.randrange(50)}", ODD_IDS[2]])
            one.reason.times_seen = chance.randrange(4)
            if chance.random() < 0.3:
                one.reason.category, one.reason.visits, one.reason.together = "shoes", 9, 4
                one.reason.price_before.minor_units, one.reason.price_now.minor_units = 500, 400
    return update


CATALOG = DictCatalog([CatalogProduct(f"p{n}", title=f"Shoe {n}" if n % 2 else "", price=n * 100, currency="EUR") for n in range(0, 50, 3)])


@pytest.mark.parametrize("catalog", [NO_CATALOG, CATALOG], ids=["without a catalog", "with one"])
@compiled
def test_compiled_and_not_it_is_the_same_to_the_last_byte(catalog):
    for seed in range(500):
        update = an_update(Random(seed))
        assert list_json(update, catalog) == list_json(update, catalog, None), seed


@pytest.mark.parametrize("how", [pytest.param(COMPILED, marks=compiled, id="compiled"), pytest.param(None, id="in Python")])
def test_each_object_says_what_the_message_says_in_its_order(how):
    for seed in range(200):
        update = an_update(Random(seed))
        shown, _ = list_json(update, CATALOG, how)
        objects = json.loads(b"[%b]" % shown)
        assert [one["product_id"] for one in objects] == [one.product_id for one in update.recommendations]
        for one, message in zip(objects, update.recommendations, strict=True):
            assert one["score"] == (message.score if math.isfinite(message.score) else None)
            assert one["reason"]["because_of"] == (message.reason.because_of or None)
            assert one["reason"]["times_seen"] == message.reason.times_seen
            assert one["reason"]["text"]
            product = CATALOG.product(message.product_id)
            assert one.get("title", "not there") == (product.title or None if product is not None else "not there")


@pytest.mark.parametrize("how", [pytest.param(COMPILED, marks=compiled, id="compiled"), pytest.param(None, id="in Python")])
def test_what_a_reader_sees_counts_for_the_digest_and_scores_do_not(how):
    update = RecommendationUpdate()
    one = update.recommendations.add(product_id="p1", score=0.5)
    one.reason.kind, one.reason.because_of = ReasonKind.REASON_KIND_ALSO_VIEWED, "p3"
    seen = list_json(update, CATALOG, how)[1]
    one.score = 0.25
    assert list_json(update, CATALOG, how)[1] == seen
    renamed = DictCatalog([CatalogProduct("p3", title="Sandal")])
    assert list_json(update, renamed, how)[1] != seen
    assert b"Sandal" in list_json(update, renamed, how)[0]
    one.product_id = "p3"
    assert b"\"price\":{\"minor_units\":300" in list_json(update, CATALOG, how)[1]
    assert list_json(update, DictCatalog([CatalogProduct("p3", price=299)]), how)[1] != list_json(update, CATALOG, how)[1]


@compiled
def test_bytes_that_are_no_update_are_left_to_python():
    whole = an_update(Random(3)).SerializeToString()
    chance = Random(5)
    answers = [COMPILED.list_json(whole[: chance.randrange(len(whole))], {}, lambda _: b"{}", None, json_of) for _ in range(300)]
    assert None in answers
    assert COMPILED.list_json(b"", {}, lambda _: b"{}", None, json_of) == (b"", b"")


@compiled
def test_noise_that_is_an_update_all_the_same_is_read_as_one():
    whole, chance, read = an_update(Random(3)).SerializeToString(), Random(7), 0
    for _ in range(2000):
        noise = bytearray(whole)
        noise[chance.randrange(len(noise))] = chance.randrange(256)
        COMPILED.list_json(bytes(noise), {}, lambda _: b"{}", None, json_of)  # whatever it is, it is survived
        try:
            update = RecommendationUpdate.FromString(bytes(noise))
        except DecodeError:
            continue
        read += 1
        assert list_json(update, NO_CATALOG) == list_json(update, NO_CATALOG, None)
    assert read > 100


@compiled
def test_what_a_function_raises_is_raised():
    update = an_update(Random(3)).SerializeToString()
    with pytest.raises(ZeroDivisionError):
        COMPILED.list_json(update, {}, lambda _: 1 // 0, None, json_of)
    with pytest.raises(TypeError, match="bytes"):
        COMPILED.list_json(update, {}, lambda _: "text", None, json_of)
    with pytest.raises(ZeroDivisionError):
        COMPILED.list_json(update, {}, lambda _: b"{}", None, lambda _: 1 // 0)
    with pytest.raises(TypeError, match="bytes"):
        COMPILED.list_json(update, {}, lambda _: b"{}", None, lambda _: "[]")
    for too_few in (b"[]", b"[1]", b"[1", b"[", b""):
        with pytest.raises((ValueError, TypeError)):
            COMPILED.list_json(update, {}, lambda _: b"{}", None, lambda _, numbers=too_few: numbers)


def test_no_more_pieces_are_kept_than_it_says():
    for number in range(MAX_PIECES + 10):
        update = RecommendationUpdate()
        update.recommendations.add(product_id="p").reason.because_of = f"q{number}"
        list_objects(update, NO_CATALOG)
    assert 0 < len(module._plain) <= MAX_PIECES


@compiled
def test_an_extension_of_other_sources_is_not_used():
    assert COMPILED.INTERFACE == INTERFACE


@pytest.mark.parametrize("catalog", [NO_CATALOG, CATALOG], ids=["without a catalog", "with one"])
def test_a_piece_that_is_kept_takes_little_more_than_its_bytes(catalog):
    """What orjson returns takes 4 kB, however short it is."""
    for pieces in (module._plain, module._titled):
        pieces.clear()
    tracemalloc.start()
    for number in range(500):
        update = RecommendationUpdate()
        update.recommendations.add(product_id="p").reason.because_of = f"cause {number}"
        list_json(update, catalog)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(module._plain) + len(module._titled) == 500
    assert taken < 500 * 1_000
