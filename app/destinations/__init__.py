"""Where recommendations go: one file for each kind of destination, settings to request as data, response to outcome. Pure.

To add a kind: docs are in docs/destinations/README.md; in short, one file beside webhook.py with a frozen dataclass that fits
``Destination``, one line in ``KINDS``, one settings class in app/settings/targets.py, and an entry in tests/contract/destinations.py, over
which the contract suite runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from app.destinations.braze import Braze
from app.destinations.customerio import CustomerIo
from app.destinations.hubspot import HubSpot
from app.destinations.iterable import Iterable
from app.destinations.klaviyo import Klaviyo
from app.destinations.limits import Limits, Quota
from app.destinations.mailchimp import Mailchimp
from app.destinations.outcomes import Down, JobReading, Reading, Rejected
from app.destinations.requests import Part, Rendered, Request, Response
from app.destinations.sendgrid import SendGrid
from app.destinations.webhook import Webhook
from app.settings import TargetSettings

__all__ = ["KINDS", "Destination", "HasFields", "JobBased", "destination_of"]


class Destination(Protocol):
    """A target and how to talk to it; all methods are pure."""

    @property
    def name(self) -> str: ...
    @property
    def timeout_seconds(self) -> float:
        """From the beginning of a request to the head of its answer."""
    @property
    def limits(self) -> Limits: ...

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """The person's part of a request; Rejected if nothing can be said of them there (no address, not one item fits)."""

    def request(self, parts: Sequence[Part]) -> Request:
        """The request that brings the destination to the state of these people: each is in it once, and they fit ``limits``."""

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """What the answer to ``request(parts)`` means."""

    def quota(self, response: Response) -> Quota | None:
        """What the response's headers say about the requests that are left, if they do."""


@runtime_checkable
class JobBased(Protocol):
    """A destination that answers with the name of a job, and says later what became of the people in it."""

    def poll(self, job: str) -> Request:
        """The request that asks about a job."""

    def read_poll(self, job: str, parts: Sequence[Part], response: Response) -> JobReading:
        """What its answer means for the people of the job, whose parts have no bodies any more. Their order is that of the job's request,
        unless another worker sent it: then some of them may be missing, and a destination that names people by their place must answer
        ``Split``: they are sent once more.
        """


@runtime_checkable
class HasFields(Protocol):
    """A destination whose fields must exist: ``tidings destinations setup`` makes what is missing."""

    def fields(self) -> Sequence[Any]:
        """What must exist."""

    def fields_request(self) -> Request:
        """The request that asks which fields there are."""

    def missing_fields(self, response: Response) -> Sequence[Any] | Down:
        """Those of ``fields()`` that are not among them; Down if they could not be read."""

    def create_field(self, field: Any) -> Request:
        """The request that makes one. 409 answers that it is there already."""

    def settings_hint(self, response: Response) -> str:
        """Lines for the settings file that follow from the fields as they are (SendGrid's ids); empty if there is nothing to say."""


#: Every kind of destination by its name in the settings file.
KINDS: dict[str, Callable[[Any], Destination]] = {
    "webhook": Webhook.of,
    "sendgrid": SendGrid.of,
    "mailchimp": Mailchimp.of,
    "hubspot": HubSpot.of,
    "klaviyo": Klaviyo.of,
    "braze": Braze.of,
    "customerio": CustomerIo.of,
    "iterable": Iterable.of,
}


def destination_of(settings: TargetSettings) -> Destination:
    """The destination that a ``[[targets]]`` section describes."""
    return KINDS[settings.kind](settings)
