"""One example of every kind of destination: the contract suite runs over each."""

from __future__ import annotations

from app.destinations import Destination
from app.destinations.braze import Braze
from app.destinations.customerio import CustomerIo
from app.destinations.iterable import Iterable
from app.destinations.klaviyo import Klaviyo
from app.destinations.requests import SigningKey
from app.destinations.webhook import Webhook

EXAMPLES: dict[str, Destination] = {
    "webhook": Webhook("inbox", "https://shop.example/hook", (SigningKey("v1", b"0123456789abcdef0123456789abcdef"),)),
    "klaviyo": Klaviyo("klaviyo", "pk_0123456789abcdef", "2026-07-15"),
    "braze": Braze("braze", "0123456789abcdef-braze", "https://rest.iad-01.braze.com"),
    "customerio": CustomerIo("customerio", "site-1", "0123456789abcdef"),
    "iterable": Iterable("iterable", "0123456789abcdef"),
}
