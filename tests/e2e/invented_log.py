"""An invented shop's log: people who come back, look, put into carts, take out and order. Needs no data set, and is the same every time."""

from __future__ import annotations

import json
import random
from pathlib import Path

USERS, PRODUCTS = 3_000, 2_000
START_MS = 1_700_000_000_000
#: What follows what; the rest are views.
KINDS = ("view", "view", "view", "view", "view", "view", "cart", "cart", "remove_from_cart", "purchase")


def write_invented_log(file: Path, events: int, seed: int = 1) -> Path:
    """A JSONL log of so many events, in the order of their time; some few products and people are in most of them."""
    chance = random.Random(seed)
    at_ms = START_MS
    with file.open("w") as log:
        for _ in range(events):
            at_ms += chance.randrange(1, 20_000)
            user, product = int(USERS * chance.random() ** 2), int(PRODUCTS * chance.random() ** 3)
            row = {"ts": at_ms, "user": f"user-{user}", "item": f"product-{product}", "event": chance.choice(KINDS)}
            log.write(json.dumps(row) + "\n")
    return file
