"""How Protobuf writes fields, for the few messages that are put together from bytes at hand: to fill one with lists takes three times as
long.
"""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.message import Message

#: What has its length before it: text, bytes, messages, packed numbers; and a number by itself.
LENGTH_DELIMITED = 2
VARINT = 0


def tag(message: type[Message], field: str, wire_type: int = LENGTH_DELIMITED) -> bytes:
    """What stands before a field whose number is below 16."""
    return bytes((message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type,))


@lru_cache(maxsize=10_000)
def varint(number: int) -> bytes:
    """A whole number from 0 on."""
    return bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80,)) + varint(number >> 7)
