"""Every answer a destination can give is told with what it means and, unless it is good, what to do."""

from __future__ import annotations

from typing import get_args

import pytest

from app.cli.destination_words import explain
from app.delivery.client import Missing, NoResponse
from app.destinations import Destination
from app.destinations.hubspot import HubSpot
from app.destinations.outcomes import (
    CONFIRMED,
    Accepted,
    Down,
    DownCause,
    PerPerson,
    PersonOutcome,
    Reading,
    Rejected,
    Retry,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.webhook import Webhook
from app.settings import HubSpotSettings
from tidings.state.v1.outbox_pb2 import DeadReason

READINGS: list[Reading | Rejected | NoResponse] = [
    CONFIRMED,
    PerPerson((Accepted("job-7"),)),
    PerPerson((Retry("400: no"),)),
    *(PerPerson((Rejected(reason, "no"),)) for reason in DeadReason.values()),
    Rejected(DeadReason.DEAD_REASON_NO_IDENTITY, "no address"),
    Unavailable("500"),
    Throttled("429", None),
    Throttled("429", 7000),
    *(Down(cause, "401") for cause in DownCause),
    Split("413", DeadReason.DEAD_REASON_TOO_LARGE),
    *(NoResponse(missing, "why") for missing in Missing),
    NoResponse(Missing.UNREACHABLE, "ClientConnectorCertificateError: certificate verify failed"),
    NoResponse(Missing.UNREACHABLE, "cannot connect: Connection refused"),
]


def webhook() -> Destination:
    return Webhook("crm", "https://crm.example", ())


def hubspot() -> Destination:
    return HubSpot.of(HubSpotSettings.model_validate({"kind": "hubspot", "name": "crm", "access_token": "env:HOME"}))


@pytest.mark.parametrize("found", READINGS, ids=str)
def test_what_is_not_good_says_what_to_do(found: Reading | Rejected | NoResponse) -> None:
    told = explain(webhook(), found)
    assert told.outcome
    assert told.meaning
    assert told.is_good == (told.outcome in ("confirmed", "accepted"))
    assert told.to_do or told.is_good or told.outcome == "not sent"


def test_every_kind_of_outcome_is_among_those_that_are_tried() -> None:
    of_people = {type(found.outcomes[0]) for found in READINGS if isinstance(found, PerPerson)}
    assert of_people == set(get_args(PersonOutcome))
    assert {type(found) for found in READINGS} >= set(get_args(Reading))


def test_something_missing_leads_to_setup_only_where_there_is_something_to_set_up() -> None:
    down = Down(DownCause.CONFIGURATION, "no such property")
    assert "tidings destinations setup crm" in explain(hubspot(), down).to_do
    assert "setup" not in explain(webhook(), down).to_do


def test_a_block_is_told_to_outlast_newer_lists() -> None:
    blocked = PerPerson((Rejected(DeadReason.DEAD_REASON_SUPPRESSED, "unsubscribed", blocks=True),))
    assert "no newer list" in explain(webhook(), blocked).meaning


def test_the_destinations_own_words_are_told() -> None:
    assert explain(webhook(), Unavailable("503: busy baking")).said == "503: busy baking"
