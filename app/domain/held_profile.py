"""A profile as its table holds it: the bytes that are stored, and the message for whoever reads it.

An event is folded from bytes to bytes by an optional extension (_fold.c). Where that was not built, or leaves an event to Python, the
message is changed (app/domain/profile.py) and encoded when it is stored; the bytes are the same.
"""

from __future__ import annotations

from collections import deque

from app.domain.compiled import compiled
from app.domain.profile import Applied, Denied, Duplicate, Interaction, fold_event
from app.domain.validation import Violation, decode_event
from app.domain.wire import tag, varint
from tidings.state.v1.profile_pb2 import Profile

#: Of app/domain/_fold.c.
INTERFACE = 1
#: None: there is none that fits.
COMPILED = compiled("app.domain._fold", INTERFACE)
_fold = None if COMPILED is None else COMPILED.fold

#: Profiles whose messages are kept after they were read: those who are ranked now are delivered soon. A message takes six times its bytes,
#: so with one for everybody who is held, these would take more than all else that is.
MAX_MESSAGES = 128

#: Of an event.
Outcome = Applied | Duplicate | Denied | Violation

_DUPLICATE, _DENIED = Duplicate(), Denied()
_USER_ID = tag(Profile, "user_id")


class HeldProfile:
    """Bytes, or a message that was changed since, or both if they say the same."""

    __slots__ = ("_message", "_raw")

    def __init__(self, raw: bytes) -> None:
        """The bytes of a tidings.state.v1.Profile."""
        self._raw: bytes | None = raw
        self._message: Profile | None = None

    @classmethod
    def new(cls, key: bytes) -> HeldProfile:
        """The profile of a person of whom nothing is known but the id."""
        return cls(_USER_ID + varint(len(key)) + key)

    @classmethod
    def decode(cls, raw: bytes) -> HeldProfile:
        """Raises DecodeError if the bytes are no Profile; but if most events are folded from bytes, the first one that is not says so."""
        held = cls(raw)
        if _fold is None:
            held.message()
        return held

    def encode(self) -> bytes:
        raw = self._raw
        if raw is None:
            assert self._message is not None
            raw = self._raw = self._message.SerializeToString()
            if _fold is not None:
                self._message = None  # it keeps the memory of whatever was replaced in it
        return raw

    def message(self) -> Profile:
        """To read, not to change. Raises DecodeError if the bytes are no Profile."""
        message = self._message
        if message is None:
            assert self._raw is not None
            message = self._message = Profile.FromString(self._raw)
        return message

    @property
    def has_message(self) -> bool:
        """Whether the message is at hand."""
        return self._message is not None

    def let_go_of_message(self) -> None:
        """Until it is asked for again; unless the message is what events are folded into, or has changed."""
        if _fold is not None and self._raw is not None:
            self._message = None

    def become(self, other: HeldProfile) -> None:
        """Hold what the other holds, which is used no more."""
        self._raw, self._message = other._raw, other._message

    def apply(self, value: bytes, key: bytes, received_at_ms: int) -> Outcome:
        """Fold the event in a Kafka record of this person, whose key is the user id. Unless it is Applied, nothing has changed."""
        if _fold is not None:
            folded = _fold(self.encode(), value, key, received_at_ms, Interaction)
            if folded is not None:
                if folded is True:
                    return _DUPLICATE
                if folded is False:
                    return _DENIED
                self._raw, interactions = folded
                self._message = None
                return Applied(interactions)
        event = decode_event(value, key, received_at_ms)
        if isinstance(event, Violation):
            return event
        outcome = fold_event(self.message(), event)
        if isinstance(outcome, Applied):
            self._raw = None
        return outcome


class RecentMessages:
    """Reads profiles, and keeps the messages of those alone that were read last."""

    def __init__(self, most: int = MAX_MESSAGES) -> None:
        self._most = most
        self._read: deque[HeldProfile] = deque()

    def message_of(self, held: HeldProfile | None) -> Profile | None:
        """To read, not to change."""
        if held is None:
            return None
        if not held.has_message:
            self._read.append(held)
            if len(self._read) > self._most:
                self._read.popleft().let_go_of_message()
        return held.message()


def message_of(held: HeldProfile | None) -> Profile | None:
    """To read, not to change."""
    return None if held is None else held.message()
