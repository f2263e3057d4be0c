"""Delivery as a whole, against real receivers on 127.0.0.1."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.unit.delivery.worlds import Delivered, DictStore, Inbox, People, a_deliverer, until, webhook


async def test_a_due_user_is_delivered_signed_and_confirmed() -> None:
    store = DictStore()
    people = People(store, ["inbox"])
    async with Inbox() as inbox:
        deliverer = a_deliverer([webhook(url=inbox.url)], store, people)
        await deliverer.start()
        people.change("ann", "mug", "cup")
        deliverer.due(["ann"])
        await until(lambda: store.delivery("ann").confirmed_version == 1)
        await deliverer.stop()
    [one] = inbox.got
    assert [r["product_id"] for r in one.body["data"]["recommendations"]] == ["mug", "cup"]
    assert store.delivery("ann").in_flight_version == 0
