"""Has the list a user would see changed? Compared by a digest of the products, their order and their reasons; scores may move freely."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from tidings.updates.v1.update_pb2 import Recommendation


def list_digest(recommendations: Iterable[Recommendation]) -> int:
    """64 bits, equal for lists that read the same, on every platform; never 0, which means that there is no list yet."""
    # Ids hold no control characters (app/domain/validation.py), so these separators cannot be mistaken for a part of one.
    parts = []
    for recommendation in recommendations:
        reason = recommendation.reason
        parts.append(f"{recommendation.product_id}\x1f{reason.kind}\x1f{reason.because_of}\x1f{reason.times_seen}")
    return int.from_bytes(blake2b("\x1e".join(parts).encode(), digest_size=8).digest(), "little") or 1
