"""Noise that looks like a message: valid ones, cut, spliced, repeated and with numbers at their limits."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Sequence
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

#: Bytes of an input; what is longer teaches nothing more and takes longer.
MAX_BYTES = 4_096
#: Where decoders have their limits: varints of 0, 2^31, 2^32, 2^63 and 2^64 and one that never ends; floats that are no number; text that
#: is none; the ids that the engine keeps to itself; JSON's own.
_TELLING = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x80\x80\x80\x80\x08", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 11, b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f",
    b"\x00\x00\x00\x00\x00\x00\xf0\x7f", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
    b"\n\x00", b"__share", b"__", b"\r\n", b"[", b"{", b'"', b"\\ud800", b"\\u0000",
    b"1e999", b"-0", b"NaN", b"9" * 40, b"null", b"true", b"[" * 200, b"9999-12-31T23:59:59.999Z", b"0001-01-01T00:00:00Z",
)  # fmt: skip


def mutated(corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """One of the corpus after 1 to 6 changes; now and then random bytes."""
    if chance.random() < 0.02:
        return chance.randbytes(chance.randrange(64))
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 6))):
        _change(data, corpus, chance)
    return bytes(data[:MAX_BYTES])


def _change(data: bytearray, corpus: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((1, 1, 2, 4, 8, 32)))
    match chance.randrange(8):
        case 0 if data:
            data[start % len(data)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[start % len(data)] = chance.randrange(256)
        case 2:
            del data[start:end]
        case 3:
            data[start:start] = data[start:end] * chance.randrange(1, 9)
        case 4:
            data[start:end] = chance.choice(_TELLING)
        case 5:
            data[start:start] = chance.choice(_TELLING)
        case 6:
            other = chance.choice(corpus)
            data[start:] = other[chance.randrange(len(other) + 1) :]
        case _:
            data[start:start] = chance.choice(corpus)  # Protobuf merges what stands one after the other


# ---------------------------------------------------------------------- messages and JSON, changed at a place of theirs

_WHOLE = (0, 1, 2, 3, 4, 7, 100, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31), -(2**63), 1_700_000_000_000)
_REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e38, 1e308, math.inf, -math.inf, math.nan)
_TEXT = ("", "shoe", "hat", "anna", "ann", "inbox", "__share", "x" * 300, "\n", "\x00", "\U0010ffff", "EUR", "price", "user-1@example.com")
_JSON = (
    None, True, False, 0, -1, 1, 2**63, 1.5, -0.0, "", "0", "x" * 300, "\u0000", "pending", [], {}, [[]], [None], [{}], {"": None},
    ["shoe"],
)  # fmt: skip


def mutated_message(kind: type[Message], data: bytes, chance: random.Random) -> bytes:
    """A valid message after 1 to 4 changes of its fields: a number at its limits, an element more or less, text that is none of ours."""
    message = kind.FromString(data)
    for _ in range(chance.randrange(1, 5)):
        _change_field(message, chance)
    return message.SerializeToString()


def mutated_json(data: bytes, chance: random.Random) -> bytes:
    """A JSON value with another in one to three of its places, or with a member more or less."""
    value = orjson.loads(data)
    for _ in range(chance.randrange(1, 4)):
        value = _with_change(value, chance)
    return json.dumps(value).encode()


def _change_field(message: Message, chance: random.Random) -> None:
    if not message.DESCRIPTOR.fields:
        return
    field = chance.choice(message.DESCRIPTOR.fields)
    held = getattr(message, field.name)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if is_message and field.message_type.GetOptions().map_entry:
        held.clear()
    elif field.is_repeated:
        place = chance.randrange(len(held)) if held else None
        match chance.randrange(4):
            case 0 if place is not None:
                del held[place]
            case 1 if place is not None and is_message:
                _change_field(held[place], chance)
            case 2 if place is not None and not is_message:
                held[place] = _scalar(field, chance, held[place])
            case _ if is_message:
                held.add()
                if place is not None:
                    held[-1].CopyFrom(held[place])
            case _:
                held.append(_scalar(field, chance, held[place] if place is not None else None))
    elif is_message:
        if chance.random() < 0.8:
            held.SetInParent()
            _change_field(held, chance)
        else:
            message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, chance, held))


def _scalar(field: Any, chance: random.Random, held: Any) -> Any:
    """A value that the field's type can hold; ``held`` where none of those chosen fits."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.choice((b"", b"\xff", held or b"", (held or b"")[:-1], chance.randbytes(9)))
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(_TEXT)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice(_REAL)
        case FieldDescriptor.CPPTYPE_ENUM:
            return chance.randrange(12)
        case kind:
            is_signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
            bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
            least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
            return chance.choice([n for n in _WHOLE if least <= n <= most])


def _with_change(value: Any, chance: random.Random) -> Any:
    places = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not places or chance.random() < 0.15:
        return copy.deepcopy(chance.choice(_JSON))
    place = chance.choice(places)
    changed = value.copy()
    match chance.randrange(6):
        case 0:
            del changed[place]
        case 1 if isinstance(changed, dict):
            changed[chance.choice(_TEXT)] = chance.choice(_JSON)
        case 1:
            changed.append(copy.deepcopy(changed[place]))
        case _:
            changed[place] = _with_change(changed[place], chance)
    return changed
