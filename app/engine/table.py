"""A table whose partitions hold decoded objects and the marks of what was applied, and change only through units (commit.py)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import faust

from app.engine.batch import BatchSchema
from app.engine.store import HIDDEN_PREFIX, Database, EngineStore
from app.errors import NotOwnedError

MARK_PREFIX = b"__mark/"
OWNER_KEY = b"__owner"
_U64 = struct.Struct(">Q")

#: Units that may change a Protobuf message before it is decoded afresh. It keeps the memory of whatever was replaced in it until it dies:
#: a profile grew by a kilobyte an event.
MAX_WEAR = 16
#: What a decoded object takes of memory, estimated: so much, so many times its encoded bytes, and so much for each unit that has changed it
#: since it was decoded. Measured of messages: 1.2 kB of 126 bytes, 5.3 kB of 827, 29 kB of 6,368. What takes less says so (Codec); the
#: least is COMPACT_BYTES, for the object, its key and the places of both in what keeps them.
OBJECT_BYTES, DECODED_FACTOR, WEAR_BYTES = 1_000, 6, 1_000
COMPACT_BYTES = 400

T = TypeVar("T")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How a table's objects become bytes. ``new(key)`` makes the object of a key that is not there yet."""

    decode: Callable[[bytes], T]
    encode: Callable[[T], bytes]
    new: Callable[[bytes], T]
    #: False for objects that free what is replaced in them (MAX_WEAR).
    wears: bool = True
    #: Where it is known: what an object takes of memory, in encoded bytes, and beside these.
    decoded_factor: float = DECODED_FACTOR
    object_bytes: int = OBJECT_BYTES


def next_offset_of(mark: bytes | None) -> int:
    """What the value of a mark's key says: the offset after the last applied record, 0 when none was."""
    return 0 if mark is None else int(_U64.unpack(mark)[0])


class PartitionState(Generic[T]):
    """One partition of a table on the worker that owns it: a mapping from key to a working object, which is changed in place.

    ``get`` looks, ``obtain`` looks and makes the key part of the unit that is being made. Objects are kept decoded in two generations
    (an approximate LRU), so that a key that comes often is parsed once, not once per event: at most ``cache_bytes`` of them, by estimate,
    whoever asks for them.
    """

    __slots__ = (
        "_applied",
        "_codec",
        "_database",
        "_dirty",
        "_hidden",
        "_marked",
        "_old",
        "_old_bytes",
        "_old_count",
        "_sizes",
        "_wear",
        "_young",
        "_young_bytes",
        "cache_bytes",
        "dirty_bytes",
        "number",
        "pending",
    )

    def __init__(self, number: int, database: Database, codec: Codec[T], hidden: dict[bytes, Codec[Any]], cache_bytes: int) -> None:
        self.number = number
        self.cache_bytes = cache_bytes
        #: Estimated bytes of the values that were changed and are not taken yet.
        self.dirty_bytes = 0
        #: Values on their way into the changelog, oldest first: newer than the database.
        self.pending: deque[dict[bytes, bytes | None]] = deque()
        self._database = database
        self._codec = codec
        self._hidden = hidden
        self._young: dict[bytes, Any] = {}
        self._young_bytes = 0.0
        self._old: dict[bytes, Any] = {}
        #: What the older generation was when it became that: those that are asked for again leave it one by one.
        self._old_bytes, self._old_count = 0.0, 0
        #: Of the objects that are kept: their encoded bytes, and how many units have changed them.
        self._sizes: dict[bytes, int] = {}
        self._wear: dict[bytes, int] = {}
        self._dirty: dict[bytes, Any] = {}
        self._applied: dict[bytes, int] = {}
        self._marked: set[bytes] = set()

    def get(self, key: bytes) -> T | None:
        """The object as it is in memory, changes of units under way included; None when there is none."""
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is None:
                found = self._dirty.get(key)  # not kept any more, and not encoded yet
                if found is None:
                    raw = self._raw(key)
                    if raw is None:
                        return None
                    found = self._codec_of(key).decode(raw)
                    self._sizes[key] = len(raw)
            self._keep(key, found)
        return found

    def obtain(self, key: bytes) -> T:
        """The object, made if it is not there, and part of the current unit."""
        found = self._dirty.get(key)
        if found is not None:
            return found  # type: ignore[no-any-return]
        found = self._young.get(key)
        if found is None:
            found = self.get(key)
            if found is None:
                found = self._codec_of(key).new(key)
                self._keep(key, found)
        self._dirty[key] = found
        self.dirty_bytes += self._sizes.get(key, 256)
        return found

    def delete(self, key: bytes) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)
        self._dirty[key] = None

    def applied(self, source: bytes) -> int:
        """How far a source was applied: the offset after the last applied one, 0 when nothing was."""
        next_offset = self._applied.get(source)
        if next_offset is None:
            raw = self._raw(MARK_PREFIX + source)
            next_offset = self._applied[source] = next_offset_of(raw)
        return next_offset

    def advance(self, source: bytes, next_offset: int) -> None:
        """Move a mark forward, as part of the current unit. It never moves back."""
        if next_offset > self.applied(source):
            self._applied[source] = next_offset
            self._marked.add(source)

    @property
    def changed(self) -> bool:
        return bool(self._dirty or self._marked)

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Encode what was changed since it was last asked, marks included. Empty when nothing was."""
        self.dirty_bytes = 0
        if not self.changed:
            return {}
        codec, hidden, objects = self._codec, self._hidden, self._dirty
        changes: dict[bytes, bytes | None] = {key: None for key, value in objects.items() if value is None}
        apart = [key for key in hidden if objects.get(key) is not None]
        if changes or apart:
            objects = {key: value for key, value in objects.items() if not (value is None or key in hidden)}
        grown = self._encode(codec, objects, changes)
        for key in apart:
            grown += self._encode(hidden[key], {key: self._dirty[key]}, changes)
        for source in self._marked:
            changes[MARK_PREFIX + source] = _U64.pack(self._applied[source])
        self._dirty = {}
        self._marked.clear()
        self.pending.append(changes)
        self._young_bytes += codec.decoded_factor * grown
        if self._young_bytes > self.cache_bytes // 2:
            self._age()
        return changes

    def _encode(self, codec: Codec[Any], objects: dict[bytes, Any], changes: dict[bytes, bytes | None]) -> int:
        """Put the objects' bytes into ``changes``; by how many bytes all have grown."""
        sizes = self._sizes
        encoded = list(map(codec.encode, objects.values()))
        new_sizes = list(map(len, encoded))
        grown = sum(new_sizes) - sum(map(sizes.get, objects, repeat(0)))
        sizes.update(zip(objects, new_sizes, strict=True))
        changes.update(zip(objects, encoded, strict=True))
        if codec.wears:
            for key, size in zip(objects, new_sizes, strict=True):
                self._wear_out(key, size)
        return grown

    def _wear_out(self, key: bytes, size: int) -> None:
        """The object was changed once more: at MAX_WEAR, it is decoded afresh when it is asked for again."""
        wear, codec = self._wear, self._codec
        worn = wear.get(key, 0) + 1
        if worn < MAX_WEAR:
            wear[key] = worn
            self._young_bytes += WEAR_BYTES
        else:
            wear.pop(key, None)
            self._old.pop(key, None)
            if self._young.pop(key, None) is not None:
                self._young_bytes -= codec.object_bytes + codec.decoded_factor * size + MAX_WEAR * WEAR_BYTES

    def written(self, changes: dict[bytes, bytes | None], changelog_offset: int, made_at_ms: int | None = None) -> None:
        """The changelog has them: so may the database. ``made_at_ms``: when, as the changelog says."""
        self._database.write(changes.items(), changelog_offset, made_at_ms)
        first = self.pending.popleft()
        assert first is changes, "units end in the order they began"

    def read(self, key: bytes) -> bytes | None:
        """The value as the changelog has it: what a view may show."""
        return self._database.get(key)

    def items(self, first: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """Every key, from ``first`` on, with its value as the changelog has it, decoded afresh."""
        decode = self._codec.decode
        for key, raw in self._database.items(first):
            yield key, decode(raw)

    @property
    def kept_bytes(self) -> int:
        """What the objects that are kept decoded take, by estimate."""
        return int(self._young_bytes + self._old_bytes * len(self._old) / max(1, self._old_count))

    def _keep(self, key: bytes, found: T) -> None:
        self._young[key] = found
        codec = self._codec
        self._young_bytes += codec.object_bytes + codec.decoded_factor * self._sizes.get(key, 0) + WEAR_BYTES * self._wear.get(key, 0)
        if self._young_bytes > self.cache_bytes // 2:
            self._age()

    def _age(self) -> None:
        """The younger generation becomes the older one, which is forgotten; what of that is changed and not taken yet, ``_dirty`` has."""
        self._old, self._old_bytes, self._old_count = self._young, self._young_bytes, len(self._young)
        self._young, self._young_bytes = {}, 0.0
        self._sizes = {key: self._sizes[key] for key in self._old if key in self._sizes}
        self._wear = {key: self._wear[key] for key in self._old if key in self._wear}

    def forget(self) -> None:
        """Nothing is kept decoded any more; what is changed and not taken yet, ``_dirty`` has."""
        self._age()
        self._age()

    def _raw(self, key: bytes) -> bytes | None:
        if key in self._dirty:
            return None  # deleted in this unit: what it changes is in memory
        for changes in reversed(self.pending):
            if key in changes:
                return changes[key]
        return self._database.get(key)

    def _codec_of(self, key: bytes) -> Codec[Any]:
        return self._hidden.get(key) or self._codec


class Table(faust.Table, Generic[T]):
    """A Faust table by its changelog, standbys and assignment; read and written by PartitionState alone."""

    def __init__(
        self,
        app: Any,
        *,
        name: str,
        codec: Codec[T],
        hidden: dict[bytes, Codec[Any]] | None = None,
        cache_bytes: int = 64 * 1024**2,
        **kwargs: Any,
    ) -> None:
        """``cache_bytes``: decoded objects that are kept, all partitions owned together, by estimate (Codec)."""
        hidden = hidden or {}
        assert all(key.startswith(HIDDEN_PREFIX) for key in hidden), "hidden keys begin with __"
        self.codec = codec
        self.hidden = hidden
        self.cache_bytes = cache_bytes
        self._states: dict[int, PartitionState[T]] = {}
        super().__init__(app, name=name, key_type=bytes, value_type=bytes, **kwargs)

    @property
    def store(self) -> EngineStore:
        return self.data  # type: ignore[return-value]  # by the app's store URL

    def state(self, partition: int) -> PartitionState[T]:
        """The partition's state. Raises NotOwnedError while this worker does not own it."""
        state = self._states.get(partition)
        if state is None:
            raise NotOwnedError(f"partition {partition} of table {self.name} is not owned here, or not recovered yet")
        return state

    def owns(self, partition: int) -> bool:
        return partition in self._states

    @property
    def kept_bytes(self) -> int:
        """What decoded objects take, all partitions owned together, by estimate."""
        return sum(state.kept_bytes for state in self._states.values())

    def forget(self) -> None:
        """Objects are decoded again when they are asked for."""
        for state in self._states.values():
            state.forget()

    @property
    def owned(self) -> list[int]:
        return sorted(self._states)

    def take_over(self, partitions: set[int]) -> None:
        """Recovery is done: these, and only these, are owned now, each starting from its database."""
        share = self.cache_bytes // max(1, len(partitions))
        self._states = {p: PartitionState(p, self.store.open(p), self.codec, self.hidden, share) for p in partitions}

    def give_up(self) -> None:
        """A rebalance began: nothing is owned until recovery says so."""
        self._states = {}

    def _new_changelog_topic(self, **kwargs: Any) -> Any:
        topic = super()._new_changelog_topic(**kwargs)
        return topic.clone(
            schema=BatchSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)
        )
