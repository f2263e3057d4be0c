"""What an answer of a destination means, in words for whoever set it up: what happened, what it means, what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from app.delivery.client import Missing, NoResponse
from app.delivery.standing import reason_name
from app.destinations import Destination, HasFields
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    PerPerson,
    Reading,
    Rejected,
    Retry,
    Split,
    Throttled,
    Unavailable,
)
from tidings.state.v1.outbox_pb2 import DeadReason


@dataclass(frozen=True, slots=True)
class Explanation:
    """``outcome`` in a word or two, as metrics and lists have it; ``said`` are the destination's own words, or the network's."""

    is_good: bool
    outcome: str
    said: str
    meaning: str
    #: "": nothing.
    to_do: str = ""


def explain(target: Destination, found: Reading | Rejected | NoResponse) -> Explanation:
    """What became of a request about one person."""
    match found:
        case NoResponse(missing, reason):
            return _explain_silence(missing, reason)
        case PerPerson((Confirmed(),)):
            return Explanation(True, "confirmed", "", "the destination has what was sent")
        case PerPerson((Accepted(job),)):
            return Explanation(
                True, "accepted", f"job {job}", "the destination took it into a job, which has not said yet what became of it",
                "run it again, with a longer --wait; if a job is never done, ask the platform why",
            )  # fmt: skip
        case PerPerson((Retry(reason),)):
            to_do = "see what the destination says; if it is not a passing trouble, mend it there or in the settings"
            if reason[:3] in ("401", "403"):
                to_do = "make sure that the receiver lets Tidings in, and verifies signatures with this secret"
            return Explanation(
                False, "retry", reason, "this attempt failed; a worker would try again, by its schedule, for about three days", to_do
            )
        case PerPerson((Rejected() as rejected,)) | (Rejected() as rejected):
            return _explain_rejection(rejected)
        case PerPerson():
            raise AssertionError("one person was asked about")
        case Unavailable(reason):
            return Explanation(
                False, "unavailable", reason, "the destination itself failed, not this person; workers try again, and stop if it goes on",
                "look whether the destination has an outage; if it says that it is well, it is the address in the settings",
            )  # fmt: skip
        case Throttled(reason, after_ms):
            wait = "" if after_ms is None else f", for {after_ms / 1000:g} s"
            return Explanation(
                False, "throttled", reason, f"it asks for fewer requests{wait}; workers wait, and nobody's attempt is counted",
                "try again later; if it goes on, something else uses the same account, or max_requests_per_second is too high",
            )  # fmt: skip
        case Down(cause, reason):
            return _explain_down(target, cause, reason)
        case Split(reason, dead):
            return _explain_rejection(Rejected(dead, reason))
        case unknown:
            assert_never(unknown)


def _explain_silence(missing: Missing, reason: str) -> Explanation:
    """Nothing was sent, or nothing came back."""
    match missing:
        case Missing.REFUSED:
            return Explanation(
                False, "address refused", reason, "nothing was sent: requests go to public addresses only, unless the settings say more",
                "if the destination is meant to be on a private network, name that network in delivery.allow_networks",
            )  # fmt: skip
        case Missing.UNRESOLVED:
            return Explanation(
                False, "no such name", reason, "nothing was sent: DNS knows no address of the host",
                "look for a slip in url or base_url (or in data_center or region), and whether this machine resolves names",
            )  # fmt: skip
        case Missing.TIMED_OUT:
            return Explanation(
                False, "timed out", reason, "it is not known whether the request arrived; a worker would send the same again",
                "look whether the host can be reached from here, and whether timeout_seconds is long enough for it",
            )  # fmt: skip
        case Missing.FORBIDDEN:
            return Explanation(False, "not sent", reason, "nothing was sent")
        case Missing.UNREACHABLE:
            return _explain_unreachable(reason)
        case unknown:
            assert_never(unknown)


def _explain_unreachable(reason: str) -> Explanation:
    lowered = reason.lower()
    if "certificate" in lowered or "ssl" in lowered:
        return Explanation(
            False, "TLS failed", reason, "nothing was sent: the server's certificate is not valid for this name, or it speaks no TLS",
            "look for a slip in the address; a certificate of your own authority must be known to this machine (SSL_CERT_FILE)",
        )  # fmt: skip
    if "refused" in lowered or "connect call failed" in lowered:
        return Explanation(
            False, "nobody listens", reason, "nothing was sent: the host answers, but nothing listens on the port",
            "look whether the receiver runs, and whether the port in the settings is right",
        )  # fmt: skip
    return Explanation(
        False, "unreachable", reason, "the connection failed, or what came back is not HTTP; whether the request arrived is not known",
        "look for a slip in the address (https for http, a port), and for a proxy or firewall in between",
    )  # fmt: skip


def _explain_down(target: Destination, cause: DownCause, reason: str) -> Explanation:
    match cause:
        case DownCause.AUTH:
            return Explanation(
                False, "credentials refused", reason, "the destination does not take the credentials, or not for this; nothing was written",
                "make sure that the key in the settings is the one you mean, is not revoked, may write people, and that region or data "
                "center are its own",
            )  # fmt: skip
        case DownCause.CONFIGURATION:
            if isinstance(target, HasFields):
                to_do = f"run `tidings destinations setup {target.name}`, which makes what is missing; then try again"
            else:
                to_do = "compare the settings of this destination with what its account has"
            meaning = "a field, a list or a contract is missing there; nothing is wrong with any person"
            return Explanation(False, "not set up", reason, meaning, to_do)
        case DownCause.GONE:
            return Explanation(
                False, "gone", reason, "it says that it wants no more requests (410); workers send none until an operator resumes it",
                f"if that is a mistake, mend it there, and run `tidings destinations resume {target.name}`",
            )  # fmt: skip
        case unknown:
            assert_never(unknown)


_GET_AN_ADDRESS = "name a person whom the destination knows or would take: --email ADDRESS, or --user ID for one of yours"
#: Why a person is rejected: what it means, and what to do.
_REJECTIONS: dict[int, tuple[str, str]] = {
    DeadReason.DEAD_REASON_NO_IDENTITY: (
        "the profile has nothing by which the destination could know the person",
        "the attribute that email_attribute names must hold an address: send it with an event, or name the attribute that does",
    ),
    DeadReason.DEAD_REASON_INVALID_IDENTITY: ("the destination does not take the address or the id", _GET_AN_ADDRESS),
    DeadReason.DEAD_REASON_CONFLICT: (
        "the destination has the person twice, or under another id",
        "merge the two over there, then run `tidings deliveries retry` for whom it concerns",
    ),
    DeadReason.DEAD_REASON_SUPPRESSED: ("the person unsubscribed, or was forgotten or blocked over there", _GET_AN_ADDRESS),
    DeadReason.DEAD_REASON_UNKNOWN_PERSON: ("the destination does not know the person, and creates none", _GET_AN_ADDRESS),
    DeadReason.DEAD_REASON_TOO_LARGE: (
        "not even one product fits, or the request is larger than the destination takes",
        "shorten the links and ids of the catalog, or set items lower",
    ),
}  # fmt: skip
_REFUSED = "the destination refuses what is said of this person", "see what it says: its fields or its settings may not fit"


def _explain_rejection(rejected: Rejected) -> Explanation:
    meaning, to_do = _REJECTIONS.get(rejected.reason, _REFUSED)
    if rejected.blocks:
        meaning += "; no newer list would be sent either"
    return Explanation(False, f"rejected: {reason_name(rejected.reason)}", rejected.detail, meaning, to_do)
