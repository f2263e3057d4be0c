"""One example of every kind of destination: the contract suite runs over each."""

from __future__ import annotations

from app.destinations import Destination
from app.destinations.requests import SigningKey
from app.destinations.webhook import Webhook

EXAMPLES: dict[str, Destination] = {
    "webhook": Webhook("inbox", "https://shop.example/hook", (SigningKey("v1", b"0123456789abcdef0123456789abcdef"),)),
}
