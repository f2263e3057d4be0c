"""Attributes and consents of a profile: the last writer wins, name by name, by event time and then by event id."""

from __future__ import annotations

from bisect import bisect_left

from tidings.events.v1.event_pb2 import ConsentChanged, ConsentState, ProfileChanged
from tidings.state.v1.profile_pb2 import Attribute, Consent, Profile

#: Cleared ones included: a cleared field is kept so that an older change does not bring it back.
#: Past it, cleared fields go first, then the one changed longest ago.
MAX_ATTRIBUTES = 100
#: Past it, what is granted goes first, then what was changed longest ago; the two purposes below stay.
MAX_CONSENTS = 16
#: The purpose without which nothing but consent is folded. Not said means allowed.
PROFILING = "profiling"
#: The purpose without which no destination is told about the person. Not said means allowed.
PERSONALISED_EMAIL = "personalised_email"


def change_fields(profile: Profile, changed: ProfileChanged, at_ms: int, event_id: str) -> None:
    """Apply the changes that are later than what is held, name by name."""
    attributes = profile.attributes
    for change in changed.changes:
        names = [attribute.name for attribute in attributes]
        place = bisect_left(names, change.name)
        new = Attribute(name=change.name, changed_at_ms=at_ms, event_id=event_id)
        match change.WhichOneof("value"):
            case "text":
                new.text = change.text
            case "number":
                new.number = change.number
            case "flag":
                new.flag = change.flag
        if place < len(names) and names[place] == change.name:
            if _stamp(new) > _stamp(attributes[place]):
                attributes[place].CopyFrom(new)
            continue
        attributes.insert(place, new)
        if len(attributes) > MAX_ATTRIBUTES:
            del attributes[min(range(len(attributes)), key=lambda i: _attribute_worth(attributes[i]))]


def change_consent(profile: Profile, changed: ConsentChanged, at_ms: int, event_id: str) -> None:
    """Apply the change if it is later than what is held for its purpose."""
    consents = profile.consents
    purposes = [consent.purpose for consent in consents]
    place = bisect_left(purposes, changed.purpose)
    new = Consent(purpose=changed.purpose, state=changed.state, changed_at_ms=at_ms, event_id=event_id)
    if place < len(purposes) and purposes[place] == changed.purpose:
        if _stamp(new) > _stamp(consents[place]):
            consents[place].CopyFrom(new)
        return
    consents.insert(place, new)
    if len(consents) > MAX_CONSENTS:
        del consents[min(range(len(consents)), key=lambda i: _consent_worth(consents[i]))]


def profiling_is_denied(profile: Profile) -> bool:
    """Whether the person's latest word on profiling is no."""
    return any(c.purpose == PROFILING and c.state == ConsentState.CONSENT_STATE_DENIED for c in profile.consents)


def email_is_denied(profile: Profile) -> bool:
    """Whether the person's latest word on personalised e-mail is no."""
    # Most people have none: a generator costs more than the question, which is asked more than once for each delivery.
    return bool(profile.consents) and any(
        c.purpose == PERSONALISED_EMAIL and c.state == ConsentState.CONSENT_STATE_DENIED for c in profile.consents
    )


def _stamp(held: Attribute | Consent) -> tuple[int, str]:
    return held.changed_at_ms, held.event_id


def _attribute_worth(attribute: Attribute) -> tuple[bool, int, str]:
    return attribute.WhichOneof("value") is not None, *_stamp(attribute)


def _consent_worth(consent: Consent) -> tuple[bool, bool, int, str]:
    return consent.purpose in (PROFILING, PERSONALISED_EMAIL), consent.state == ConsentState.CONSENT_STATE_DENIED, *_stamp(consent)
