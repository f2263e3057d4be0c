"""The invented shop is complete, its buttons make valid events, and its shoppers teach something."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import app.web.demo
from app.domain.json_event import event_from_json
from app.web.demo.shop import ACTIONS, SPREAD_MS, Action, arrival_json, event_json, load_catalog, seed_events
from tidings.events.v1.event_pb2 import Event

NOW_MS = 1_800_000_000_000
HERE = Path(app.web.demo.__file__).parent
CATALOG = load_catalog()


def test_every_product_has_a_picture_a_price_and_a_family() -> None:
    pictures = {symbol.get("id") for symbol in ET.parse(HERE / "art.svg").getroot()}
    assert pictures == set(CATALOG.products)
    assert all(p.price_minor_units > 0 and p.family_id in CATALOG.companions for p in CATALOG.products.values())
    assert set(CATALOG.companions.values()) <= set(CATALOG.companions)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_button_makes_a_valid_event(action: Action) -> None:
    sent = event_json(CATALOG, action, event_id="e-1", user_id="ada", product_id="oak-board", occurred_at_ms=NOW_MS)
    event = event_from_json(sent, NOW_MS)
    assert isinstance(event, Event), event
    payloads = {"view": "product_viewed", "cart": "added_to_cart", "buy": "order_placed", "email_click": "email_clicked"}
    assert event.WhichOneof("payload") == payloads[action]
    assert event.occurred_at_ms == NOW_MS


def test_an_arrival_makes_a_valid_event() -> None:
    sent = arrival_json(event_id="e-1", user_id="ada", name="Ada", address="ada@shop.example", occurred_at_ms=NOW_MS)
    event = event_from_json(sent, NOW_MS)
    assert isinstance(event, Event), event
    assert {change.name: change.text for change in event.profile_changed.changes} == {"first_name": "Ada", "email": "ada@shop.example"}


def test_the_invented_shoppers_are_the_same_each_time_and_valid() -> None:
    events = seed_events(CATALOG, NOW_MS)
    assert events == seed_events(CATALOG, NOW_MS)
    assert 300 <= len(events) <= 2_000
    parsed = [event_from_json(e, NOW_MS) for e in events]
    assert all(isinstance(e, Event) for e in parsed)
    times = [e.occurred_at_ms for e in parsed if isinstance(e, Event)]
    assert times == sorted(times)
    assert times[0] >= NOW_MS - SPREAD_MS
    assert times[-1] <= NOW_MS + 10_000
    assert len({e["event_id"] for e in events}) == len(events)


def test_what_is_viewed_together_with_a_product_is_mostly_of_its_family() -> None:
    by_user: dict[str, list[str]] = defaultdict(list)
    for event in seed_events(CATALOG, NOW_MS):
        if event["event"] == "product_viewed":
            by_user[event["user_id"]].append(event["product_id"])
    together: dict[str, Counter[str]] = defaultdict(Counter)
    for viewed in by_user.values():
        for before, after in pairwise(viewed):
            if before != after:
                together[before][after] += 1
                together[after][before] += 1
    for product in CATALOG.products.values():
        nearest = [p for p, _ in together[product.product_id].most_common(3)]
        same = sum(CATALOG.products[p].family_id == product.family_id for p in nearest)
        assert same >= 2, (product.product_id, nearest)


def test_the_page_asks_no_other_server_for_anything() -> None:
    for name in ("page.html", "page.css", "page.js", "art.svg"):
        addresses = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}\S*", (HERE / name).read_text(encoding="utf-8"))
        assert all(address.startswith("http://www.w3.org/2000/svg") for address in addresses), (name, addresses)
