"""Noise that looks like a message: valid ones, cut, spliced, repeated and with numbers at their limits."""

from __future__ import annotations

import random
from collections.abc import Sequence

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
