"""One example of every kind of destination: the contract suite runs over each."""

from __future__ import annotations

from app.destinations import Destination
from app.destinations.webhook import Webhook

EXAMPLES: dict[str, Destination] = {
    "webhook": Webhook("inbox", "https://shop.example/hook", b"0123456789abcdef0123456789abcdef", timeout_seconds=15, concurrency=32),
}
