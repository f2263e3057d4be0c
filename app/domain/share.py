"""One events partition's share of the small global models: folded beside its profiles, added up by every worker (app/domain/models.py)."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from app.domain.profile import Interaction
from app.domain.reminders import HISTORY_CELLS, SESSION_CELLS, START_CELLS, Reminders, learn_return
from app.domain.trending import Trending, TrendingBlock, count_touch
from tidings.state.v1 import share_pb2


@dataclass(slots=True)
class Share:
    """The message of the same name as a working object: it changes with each event, and reading and writing single counts of a message
    costs several times as much.
    """

    partition: int
    event_count: int = 0
    reminders: Reminders = field(default_factory=Reminders)
    trending: Trending = field(default_factory=Trending)
    #: Fields that a newer worker has written into the message, as they came.
    unknown_fields: bytes = b""


def new_share(partition: int) -> Share:
    """The share of a partition that had no events."""
    return Share(partition)


def fold_share(share: Share, interaction: Interaction) -> None:
    """Add what one interaction tells of returning and of trends. Bounded: about 10 kB, 15 kB at most with ids of 16 bytes."""
    _, product_id, _, _, session, earlier, _ = interaction
    share.event_count += 1
    if session or earlier:
        learn_return(share.reminders, session, earlier, product_id)
    count_touch(share.trending, product_id)


def encode_share(share: Share) -> bytes:
    """The bytes of a tidings.state.v1.Share. Made of several messages: what stands one after the other is merged when it is read, lists
    appended to each other (https://protobuf.dev/programming-guides/encoding/#last-one-wins). So a closed block is encoded once.
    """
    blocks = share.trending.blocks
    for block in blocks[:-1]:
        if not block.encoded:
            block.encoded = _encode_blocks([block])
    reminders = share.reminders
    message = share_pb2.Share(partition=share.partition, event_count=share.event_count)
    counts = message.reminders
    counts.scale = reminders.scale
    counts.session_once.extend(reminders.session_once)
    counts.history_once.extend(reminders.history_once)
    counts.MergeFromString(_packed_counts(reminders))
    parts = [block.encoded for block in blocks[:-1]]
    return b"".join([*parts, _encode_blocks(blocks[-1:]), message.SerializeToString(), share.unknown_fields])


def decode_share(value: bytes) -> Share:
    """What ``encode_share`` wrote. Raises DecodeError if the bytes are no Share, or its lists are not as long as they must be."""
    message = share_pb2.Share.FromString(value)
    share = Share(message.partition, message.event_count)
    if message.HasField("reminders"):
        share.reminders = _reminders(message.reminders)
    for block in message.trending.blocks:
        if len(block.product_ids) != len(block.counts):
            raise DecodeError("the lists of a block of a tidings.state.v1.Share must be of one length")
        if block.product_ids and not block.event_count:
            raise DecodeError("a block of a tidings.state.v1.Share counts products, but no event")
        share.trending.blocks.append(TrendingBlock(block.event_count, block.product_ids[:], block.counts[:]))
    for name in share_pb2.Share.DESCRIPTOR.fields_by_name:
        message.ClearField(name)
    share.unknown_fields = message.SerializeToString()
    return share


def _encode_blocks(blocks: list[TrendingBlock]) -> bytes:
    message = share_pb2.Share()
    for block in blocks:
        part = message.trending.blocks.add(event_count=block.event_count)
        part.product_ids.extend(block.product_ids)
        part.counts.extend(block.counts)
    return message.SerializeToString()


def _packed_counts(reminders: Reminders) -> bytes:
    """The counts by cell as they are on the wire: to hand them over one by one takes ten times as long."""
    parts: list[bytes] = []
    for head, counts in zip(_HEADS, reminders.of_cells(), strict=True):
        if sys.byteorder == "big":
            counts = counts[:]
            counts.byteswap()
        parts += head, counts.tobytes()
    return b"".join(parts)


def _head(name: str, cells: int) -> bytes:
    """What stands before a field's numbers on the wire: the field, and their length."""
    message = share_pb2.Reminders()
    getattr(message, name).extend([0.0] * cells)
    return message.SerializeToString()[: -4 * cells]


_HEADS = (
    _head("session_available", SESSION_CELLS),
    _head("session_hit", SESSION_CELLS),
    _head("history_available", HISTORY_CELLS),
    _head("history_hit", HISTORY_CELLS),
    _head("start_available", START_CELLS),
    _head("start_hit", START_CELLS),
)


def _reminders(message: share_pb2.Reminders) -> Reminders:
    if not message.scale > 0:
        raise DecodeError("the reminders of a tidings.state.v1.Share must have a scale")
    none = Reminders()
    reminders = Reminders(
        message.scale,
        array("f", message.session_available[:]),
        array("f", message.session_hit[:]),
        array("f", message.history_available[:]),
        array("f", message.history_hit[:]),
        array("f", message.start_available[:]) or none.start_available,  # a share from before these were counted
        array("f", message.start_hit[:]) or none.start_hit,
        message.session_once[:] or none.session_once,
        message.history_once[:] or none.history_once,
    )
    if list(map(len, reminders.all_counts())) != list(map(len, none.all_counts())):
        raise DecodeError("the lists of the reminders of a tidings.state.v1.Share must be as long as there are cells")
    return reminders
