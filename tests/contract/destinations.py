"""One example of every kind of destination: the contract suite runs over each."""

from __future__ import annotations

from app.destinations import Destination
from app.destinations.braze import Braze
from app.destinations.customerio import CustomerIo
from app.destinations.encoding import slot_names
from app.destinations.hubspot import HubSpot
from app.destinations.iterable import Iterable
from app.destinations.klaviyo import Klaviyo
from app.destinations.mailchimp import Mailchimp
from app.destinations.requests import SigningKey
from app.destinations.sendgrid import SendGrid
from app.destinations.webhook import Webhook

#: The ids that SendGrid gave to our fields.
_FIELD_IDS = {
    name: f"e{number}_{'D' if name == 'recs_at' else 'T'}"
    for number, name in enumerate((*slot_names("rec", 3), "recs_version", "recs_at"), start=1)
}

EXAMPLES: dict[str, Destination] = {
    "webhook": Webhook("inbox", "https://shop.example/hook", (SigningKey("v1", b"0123456789abcdef0123456789abcdef"),)),
    "sendgrid": SendGrid("sendgrid", "SG.0123456789abcdef", _FIELD_IDS),
    "mailchimp": Mailchimp("mailchimp", "0123456789abcdef-us6", "a1b2c3d4e5", "https://us6.api.mailchimp.com"),
    "hubspot": HubSpot("hubspot", "pat-0123456789abcdef"),
    "klaviyo": Klaviyo("klaviyo", "pk_0123456789abcdef", "2026-07-15"),
    "braze": Braze("braze", "0123456789abcdef-braze", "https://rest.iad-01.braze.com"),
    "customerio": CustomerIo("customerio", "site-1", "0123456789abcdef"),
    "iterable": Iterable("iterable", "0123456789abcdef"),
}
