"""What an answer of a destination means for the person it was about: one of four outcomes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The destination has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed and counts; the next is due by the schedule, and not before ``after_ms`` milliseconds from now."""

    reason: str
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Throttled:
    """The destination asks for fewer requests: nobody's attempt, but nothing goes there for ``after_ms`` ms (None: it did not say)."""

    reason: str
    after_ms: int | None


@dataclass(frozen=True, slots=True)
class TargetDisabled:
    """The destination wants no more requests at all."""

    reason: str


Outcome = Confirmed | Retry | Throttled | TargetDisabled
