"""A change of stock or price is in force in every answer of every worker within a second, and in whatever is delivered after it."""

from __future__ import annotations

import json
import time
from typing import Any

from app.streams.publisher import Publisher
from tests.e2e.fleet import Fleet
from tests.e2e.processes import Worker
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event, ProductViewed

IN_FORCE_SECONDS = 1.0
#: Changes that are made; each is timed.
CHANGES = 10
PRODUCTS = [f"p{number}" for number in range(30)]
NOW_MS = time.time_ns() // 1_000_000


async def write(worker: Worker, method: str, products: list[dict[str, Any]]) -> None:
    status, answer = await worker.request(method, "/v1/products", json.dumps(products).encode())
    assert status == 202, answer


async def list_of(worker: Worker, query: str = "") -> dict[str, dict[str, Any]]:
    status, document = await worker.get(f"/v1/users/u1/recommendations{query}")
    return {one["product_id"]: one for one in document["recommendations"]} if status == 200 else {}


async def test_a_change_is_in_force_in_every_answer_within_a_second(fleet: Fleet) -> None:
    one, other = await fleet.start("a", "b")
    await write(one, "PUT", [{"id": product, "title": product.upper(), "price": "20 EUR"} for product in PRODUCTS])
    async with Publisher.of_events(fleet.settings) as publisher:
        await publisher.publish([
            Event(event_id=f"{user}-{n}", user_id=user, occurred_at_ms=NOW_MS + n, product_viewed=ProductViewed(product_id=product))
            for user in ("u1", "u2", "u3")
            for n, product in enumerate(PRODUCTS)
        ])
    await fleet.settled(3 * len(PRODUCTS))

    async def has_titles() -> bool:
        return len(found := await list_of(other)) >= CHANGES and all(one["title"] == one["product_id"].upper() for one in found.values())

    await until(has_titles, 30, "a list of products with their titles")
    waits = []
    for number, product in enumerate(list(await list_of(one))[:CHANGES]):
        changed = {"id": product, "in_stock": False} if number % 2 else {"id": product, "price": "15 EUR"}
        await write(one, "PATCH", [changed])
        began = time.monotonic()

        async def is_in_force(product: str = product, is_sold_out: bool = bool(number % 2)) -> bool:
            answers = [await list_of(worker, query) for worker in (one, other) for query in ("", "?slot=for_you")]
            if is_sold_out:
                return not any(product in answer for answer in answers)
            return all(answer[product]["price"]["minor_units"] == 1500 for answer in answers)

        await until(is_in_force, 10, f"{changed} in force")
        waits.append(time.monotonic() - began)
    assert max(waits) < IN_FORCE_SECONDS, waits
    assert len(await list_of(one, "?slot=for_you")) == 20, "others take the places of what is sold out"


async def test_what_sold_out_is_in_no_body_that_is_delivered_after_it(fleet: Fleet) -> None:
    (worker,) = await fleet.start("a")
    await write(worker, "PUT", [{"id": product, "title": product.upper()} for product in PRODUCTS])
    async with Publisher.of_events(fleet.settings) as publisher:
        views = [
            Event(event_id=f"e{n}", user_id="u1", occurred_at_ms=NOW_MS + n, product_viewed=ProductViewed(product_id=product))
            for n, product in enumerate(PRODUCTS[:6])
        ]
        await publisher.publish(views[:5])
        await fleet.settled(5)
        before = {one["product_id"] for one in (await fleet.inbox.bodies())["u1"]["data"]["recommendations"]}
        assert "p3" in before
        await write(worker, "PATCH", [{"id": "p3", "in_stock": False}])

        async def is_in_force() -> bool:
            return "p3" not in await list_of(worker)

        await until(is_in_force, 10, "p3 sold out")
        await publisher.publish(views[5:])
        await fleet.settled(6)
    after = (await fleet.inbox.bodies())["u1"]["data"]["recommendations"]
    assert "p3" not in {one["product_id"] for one in after}
    assert {one["title"] for one in after} == {one["product_id"].upper() for one in after}
