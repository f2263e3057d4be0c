"""What goes wrong at a platform: nothing, until a test says so, and it may say so while the platform serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Trouble(Enum):
    """Why a platform does not take one person; each platform has its own words for it, or none."""

    INVALID = "invalid"
    #: Erased there: never to be written again.
    FORGOTTEN = "forgotten"
    #: Unsubscribed, bounced or blocked.
    SUPPRESSED = "suppressed"
    #: Their identifiers belong to two people.
    CONFLICT = "conflict"
    #: The platform does not know them, and does not create them.
    UNKNOWN = "unknown"
    #: The platform says that it took what was said of them, and forgets it.
    SILENT = "silent"


@dataclass
class Faults:
    """Changed in place; each field says until when it holds."""

    #: The credentials are refused, right or wrong.
    is_key_expired: bool = False
    #: Every request is answered with this server error, or other status, and not applied.
    status: int | None = None
    #: Every request waits so long before it is looked at, and so long before its answer leaves.
    hang_seconds: float = 0.0
    latency_seconds: float = 0.0
    #: The connection is reset for so many more writes, after they were applied, or before.
    resets_after_write: int = 0
    resets_before_write: int = 0
    #: People by any of their identifiers.
    people: dict[str, Trouble] = field(default_factory=dict)
    #: A job takes so long, and so many more of them fail as a whole.
    job_seconds: float = 0.05
    failing_jobs: int = 0
    #: Braze: 202, queued, until this ends; what is queued is applied then.
    is_in_maintenance: bool = False
    #: HubSpot: so many more requests meet a lock of two seconds (423).
    locked: int = 0
    #: HubSpot: a migration goes on, and takes so long from now (477), until it is None.
    migrating_seconds: int | None = None
    #: A batch with somebody invalid in it is refused as a whole, without a word on who it is.
    is_opaque: bool = False
    #: Iterable: fields that the project does not know are left out.
    drops_unknown_fields: bool = False
