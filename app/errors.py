"""Every error of Tidings, in one tree.

TidingsError
├── SettingsError          the settings are wrong; all problems are listed at once
├── BrokerError            Kafka cannot be reached, or refuses what Tidings needs
├── ProduceError           a record could not be written; the worker stops and its supervisor replays
├── FencedError            another worker owns the partition now
├── StateError             the local or recovered state contradicts the log; going on would lose events
├── NotOwnedError          the partition is not this worker's
├── StandstillError        the worker lives, and does not go on; its supervisor starts another
├── MalformedLogError      an event log file cannot be read
└── CommandError           a command cannot be carried out, for a reason its user can mend

Errors are for bugs and edges. What is expected (a bad event, a refused delivery) is a value: see the outcomes in app/domain and
app/delivery.
"""

from __future__ import annotations

from collections.abc import Sequence


class TidingsError(Exception):
    """What happened, to what, and what to do about it, in a sentence for the person who runs Tidings."""


class SettingsError(TidingsError):
    """The settings do not fit together. ``problems`` holds one line for each, naming the setting."""

    def __init__(self, problems: Sequence[str], source: str = "the settings") -> None:
        self.problems = list(problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s)\n" + "\n".join(f"  - {p}" for p in self.problems))


class BrokerError(TidingsError):
    """Kafka cannot be reached, or refuses something Tidings needs."""


class ProduceError(TidingsError):
    """A record was not acknowledged. The worker stops; nothing past the record is committed."""


class FencedError(ProduceError):
    """The broker refused a write because a newer owner of the partition exists."""


class StateError(TidingsError):
    """State and log disagree: an empty table under a committed offset, a hole between offsets, a foreign data directory."""


class NotOwnedError(TidingsError):
    """This worker does not own the partition, or does not own it yet."""


class StandstillError(TidingsError):
    """The worker lives, and does not consume, commit or deliver, though nothing outside keeps it."""


class MalformedLogError(TidingsError):
    """An event log (Parquet, CSV, JSONL) lacks a column or holds a value that cannot be read."""


class CommandError(TidingsError):
    """A command cannot be carried out."""
