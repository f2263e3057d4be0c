"""Where recommendations go: one file for each kind of destination, settings to request as data, response to outcome. Pure.

To add a kind: one file beside webhook.py with a frozen dataclass that fits ``Destination``, one line in ``KINDS``, one settings class in
app/settings.py, and an entry in tests/contract/destinations.py, over which the contract suite runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.destinations.outcomes import Confirmed, Outcome, Retry, TargetDisabled, Throttled
from app.destinations.requests import Rendered, Request, Response
from app.destinations.webhook import Webhook
from app.settings import WebhookSettings

__all__ = [
    "KINDS", "Confirmed", "Destination", "Outcome", "Rendered", "Request", "Response", "Retry", "TargetDisabled", "Throttled", "Webhook",
    "destination_of",
]


class Destination(Protocol):
    """A target and how to talk to it; both methods are pure."""

    @property
    def name(self) -> str: ...
    @property
    def timeout_seconds(self) -> float: ...
    @property
    def concurrency(self) -> int: ...

    def request(self, rendered: Rendered) -> Request:
        """The request that brings the destination to this person's state."""

    def read(self, response: Response) -> Outcome:
        """What the answer means."""


#: Every kind of destination by its name in the settings file.
KINDS: dict[str, Callable[[WebhookSettings], Destination]] = {
    "webhook": Webhook.of,
}


def destination_of(settings: WebhookSettings) -> Destination:
    """The destination that a ``[[targets]]`` section describes."""
    return KINDS[settings.kind](settings)
