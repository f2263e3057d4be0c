"""One events partition's share of the small global models: folded beside its profiles, added up by every worker (app/domain/models.py)."""

from __future__ import annotations

from app.domain.profile import Interaction
from app.domain.reminders import learn_return, new_reminders
from app.domain.trending import count_touch
from tidings.state.v1.share_pb2 import Share


def new_share(partition: int) -> Share:
    """The share of a partition that had no events."""
    return Share(partition=partition, reminders=new_reminders())


def fold_share(share: Share, interaction: Interaction) -> None:
    """Add what one interaction tells of returning and of trends. Bounded: about 10 kB, 15 kB at most with ids of 16 bytes."""
    share.event_count += 1
    if interaction.session or interaction.earlier:
        learn_return(share.reminders, interaction.session, interaction.earlier, interaction.product_id)
    count_touch(share.trending, interaction.product_id)
