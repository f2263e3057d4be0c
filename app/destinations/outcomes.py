"""What an answer of a destination means: for each person it was about, or for the request as a whole.

``Reading`` is what ``Destination.read`` returns. A reading is either an outcome for each person, in the order of the request's parts, or
one thing that holds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

# For one person -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The destination has it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The destination took it into a job, and will say later what became of it: ``JobBased.poll``."""

    job: str


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed and counts; the next is due by the schedule, and not before ``after_ms`` milliseconds from now."""

    reason: str
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination will not take this person as they are now: given up until there is a newer list, or an operator says so.

    ``blocks``: nor any other state of theirs (unsubscribed, forgotten, suppressed): no newer list changes that.
    """

    reason: DeadReason
    detail: str
    blocks: bool = False


PersonOutcome = Confirmed | Accepted | Retry | Rejected

# For the request as a whole -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PerPerson:
    """One outcome for each part of the request, in its order."""

    outcomes: tuple[PersonOutcome, ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The destination failed (a server error, no answer): everyone's attempt, due again by the schedule, and not before ``after_ms``.
    Many of these in a row trip the breaker.
    """

    reason: str
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Throttled:
    """The destination asks for fewer requests: nobody's attempt, but nothing goes there for ``after_ms`` ms (None: it did not say)."""

    reason: str
    after_ms: int | None


class DownCause(Enum):
    """Why a destination takes nothing until somebody does something about it."""

    #: The credentials are wrong, or may not do this.
    AUTH = "auth"
    #: A field, a list or a contract is missing there: nothing is wrong with any person.
    CONFIGURATION = "configuration"
    #: It said that it wants no more requests (410).
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Down:
    """The destination takes nothing, for a cause that time does not mend: nobody's attempt, and none follows until an operator acts."""

    cause: DownCause
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """The request was refused as a whole, for its size, or for somebody in it without saying whom: its halves may fare better.

    With one person in it, that person is rejected, for ``dead``.
    """

    reason: str
    dead: DeadReason = outbox_pb2.DEAD_REASON_REFUSED


@dataclass(frozen=True, slots=True)
class Running:
    """The job is still at work. Ask again after so long, about ``job`` if it has another name or stage by now."""

    after_ms: int
    job: str = ""


Reading = PerPerson | Unavailable | Throttled | Down | Split
#: Of a job that was asked for.
JobReading = Reading | Running

#: Everyone in a request of one.
CONFIRMED = PerPerson((Confirmed(),))
