"""One target's lane: who waits, who is next. It holds user ids, no bodies, and does no I/O.

A user is in one of four places: ready (in the order they came, by partition), ready to be sent once more (the same, for those who have
nothing new), timed (until a moment), or in a turn (being looked at, marked, sent, in a job over there, or recorded). One turn per user is
what keeps it to one request in flight per target and user.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain, islice

from app.delivery.left_out import LeftOut

#: Users who may wait for their turn, and as many who may wait for a time: 200 bytes each, and for those who wait for a time 300. Others are
#: left out, for the outbox has them (left_out.py). Whoever had a turn comes back all the same.
MAX_USERS = 50_000
#: Timers that were superseded stay in the heap until their time, or until there are more of them than this and than live ones.
_MAX_STALE_TIMERS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A user's turn at the target."""

    user_id: str
    partition: int


class Lane:
    """Of the users who are due at the target, on this worker, as many as it has room for: an id, a place in a queue or heap, no more for
    each.
    """

    def __init__(self, partition_of: Callable[[str], int], max_users: int = MAX_USERS) -> None:
        self._partition_of = partition_of
        self._max_users = max_users
        self.left_out = LeftOut()
        #: Partitions that have ready users, the next one first.
        self._ready: OrderedDict[int, OrderedDict[str, None]] = OrderedDict()
        #: The same for those who have nothing new, but are to be sent once more.
        self._resync: OrderedDict[int, OrderedDict[str, None]] = OrderedDict()
        self._timed: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._turns: dict[str, Turn] = {}
        self._open_turns = 0
        self._paused_until_ms = 0
        #: Turns that ended otherwise than by giving the user back unsent.
        self.ended = 0

    def __len__(self) -> int:
        return sum(map(len, self._ready.values())) + self.resync_users + len(self._timed) + len(self._turns)

    @property
    def room(self) -> int:
        """How many more users may wait for their turn."""
        return max(0, self._max_users - sum(map(len, self._ready.values())) - self.resync_users)

    @property
    def has_much_room(self) -> bool:
        """Whether it is worth while to look for those who were left out."""
        return self.room > self._max_users // 2

    @property
    def resync_users(self) -> int:
        """Who waits to be sent once more."""
        return sum(map(len, self._resync.values()))

    @property
    def paused_until_ms(self) -> int:
        """0, or the past: it is not paused."""
        return self._paused_until_ms

    @property
    def open_turns(self) -> int:
        """Turns that have not ended, those of users who were forgotten meanwhile included."""
        return self._open_turns

    @property
    def has_ready(self) -> bool:
        """Whether someone with something new waits for nothing but a turn."""
        return bool(self._ready)

    @property
    def has_resync(self) -> bool:
        """Whether someone waits to be sent once more."""
        return bool(self._resync)

    def due(self, user_ids: Iterable[str]) -> set[int]:
        """The users have something new, or may have. Who is in a turn is looked at again when it ends; returns their partitions. Who is
        not here, and has no room, is left out.
        """
        in_turns, room = set(), self.room
        for user_id in user_ids:
            if (turn := self._turns.get(user_id)) is not None:
                in_turns.add(turn.partition)
                continue
            partition = self._partition_of(user_id)
            if user_id in self._ready.get(partition, ()):
                continue
            if self._resync and self._drop_from_resync(user_id):
                room += 1
            elif self._timed.pop(user_id, None) is None and room <= 0:
                self.left_out.add(partition)
                continue
            self._make_ready(user_id)
            room -= 1
        return in_turns

    def due_again(self, user_ids: Iterable[str]) -> set[int]:
        """The users are to be sent once more, when nobody has anything new. Who is elsewhere in the lane comes to it from there; returns
        the partitions of those who are in a turn.
        """
        in_turns, room = set(), self.room
        for user_id in user_ids:
            partition = self._partition_of(user_id)
            if (turn := self._turns.get(user_id)) is not None:
                in_turns.add(turn.partition)
            elif user_id in self._timed or user_id in self._ready.get(partition, ()) or user_id in self._resync.get(partition, ()):
                continue
            elif room <= 0:
                self.left_out.add(partition)
            else:
                self._make_ready(user_id, self._resync)
                room -= 1
        return in_turns

    def take(self, now_ms: int, limit: int, busy: Collection[int] = ()) -> list[Turn]:
        """The next turns, at most ``limit``, all of one partition, which is none of ``busy``, so that one write can mark them all.

        None if nobody is ready, or the target is paused. Partitions take turns; in each, who came first goes first.
        """
        if limit < 1 or not self.is_open(now_ms):
            return []
        self._ring(now_ms)
        return self._take_of(self._ready, limit, busy)

    def take_resync(self, now_ms: int, limit: int, busy: Collection[int] = ()) -> list[Turn]:
        """The same of those who are to be sent once more; none while somebody has something new."""
        if limit < 1 or self._ready or not self.is_open(now_ms):
            return []
        return self._take_of(self._resync, limit, busy)

    def holds(self, turn: Turn) -> bool:
        """Whether the turn still counts: the user was not forgotten since."""
        return self._turns.get(turn.user_id) is turn

    def end(self, turn: Turn, again_at_ms: int | None, *, first: bool = False, is_resync: bool = False) -> None:
        """The turn is over. The user is due again then (0: at once, behind the others, or before them), or, with None, is forgotten."""
        self._open_turns -= 1
        self.ended += not first
        if not self.holds(turn):
            return
        del self._turns[turn.user_id]
        if again_at_ms == 0:
            queue = self._resync if is_resync else self._ready
            self._make_ready(turn.user_id, queue)
            if first:
                queue[turn.partition].move_to_end(turn.user_id, last=False)
        elif again_at_ms is not None and len(self._timed) >= self._max_users:
            self.left_out.add(turn.partition, again_at_ms)
        elif again_at_ms is not None:
            self._timed[turn.user_id] = again_at_ms
            heapq.heappush(self._heap, (again_at_ms, turn.user_id))
            self._drop_stale_timers()

    def pause(self, until_ms: int) -> None:
        """Nobody's turn before then."""
        self._paused_until_ms = max(self._paused_until_ms, until_ms)

    def is_open(self, now_ms: int) -> bool:
        """Whether requests may go to the target: it is not paused."""
        return now_ms >= self._paused_until_ms

    def set_back(self, by_ms: int) -> None:
        """The clock was: all times lie as far ahead as they did."""
        self._paused_until_ms -= by_ms
        self._timed = {user_id: at_ms - by_ms for user_id, at_ms in self._timed.items()}
        self._heap = [(at_ms, user_id) for user_id, at_ms in self._timed.items()]
        heapq.heapify(self._heap)
        self.left_out.set_back(by_ms)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop the users of these partitions. A turn of theirs goes on, and keeps its place among the open ones, but counts no more."""
        for partition in partitions:
            self._ready.pop(partition, None)
            self._resync.pop(partition, None)
        self._timed = {u: at for u, at in self._timed.items() if self._partition_of(u) not in partitions}
        self._turns = {u: turn for u, turn in self._turns.items() if turn.partition not in partitions}
        self.left_out.forget(partitions)
        self._drop_stale_timers()

    def users(self) -> list[str]:
        """Everyone in the lane."""
        queues = chain(self._ready.values(), self._resync.values())
        return [*chain.from_iterable(queues), *self._timed, *self._turns]

    def first_users(self, limit: int) -> list[str]:
        """Some of those who may be in the lane for longest: the first of each partition, in turns, and of those who wait for a time."""
        first = (next(iter(users)) for users in self._ready.values())
        return [*islice(first, limit), *islice(self._turns, limit), *islice(self._timed, limit)]

    def next_at_ms(self) -> int | None:
        """When ``take`` may next have a turn that nothing else announces; None: not before someone becomes due or a turn ends."""
        if self._ready:
            return self._paused_until_ms
        return max(self._heap[0][0], self._paused_until_ms) if self._heap else None

    def _take_of(self, queue: OrderedDict[int, OrderedDict[str, None]], limit: int, busy: Collection[int]) -> list[Turn]:
        partition = next((p for p in queue if p not in busy), None)
        if partition is None:
            return []
        users = queue[partition]
        turns: list[Turn] = []
        while users and len(turns) < limit:
            user_id, _ = users.popitem(last=False)
            turn = self._turns[user_id] = Turn(user_id, partition)
            turns.append(turn)
        if users:
            queue.move_to_end(partition)
        else:
            del queue[partition]
        self._open_turns += len(turns)
        return turns

    def _make_ready(self, user_id: str, queue: OrderedDict[int, OrderedDict[str, None]] | None = None) -> None:
        queue = self._ready if queue is None else queue
        partition = self._partition_of(user_id)
        users = queue.get(partition)
        if users is None:
            users = queue[partition] = OrderedDict()
        users.setdefault(user_id)

    def _drop_from_resync(self, user_id: str) -> bool:
        """Whether the user stood there."""
        partition = self._partition_of(user_id)
        users = self._resync.get(partition)
        if users is None or user_id not in users:
            return False
        del users[user_id]
        if not users:
            del self._resync[partition]
        return True

    def _ring(self, now_ms: int) -> None:
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, user_id = heapq.heappop(self._heap)
            if self._timed.get(user_id) == at_ms:
                del self._timed[user_id]
                self._make_ready(user_id)

    def _drop_stale_timers(self) -> None:
        if len(self._heap) > 2 * len(self._timed) + _MAX_STALE_TIMERS:
            self._heap = [(at_ms, user_id) for user_id, at_ms in self._timed.items()]
            heapq.heapify(self._heap)


def divide(limit: int, wanted: list[int]) -> list[int]:
    """Shares of a limit: none above what is wanted, together at most the limit, as equal as that allows; at least 1 each if the limit is.

    Each target has its own share, so that one that hangs cannot take the others' turns.
    """
    shares = [0] * len(wanted)
    left = limit
    for place, index in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        shares[index] = min(wanted[index], left // (len(wanted) - place))
        left -= shares[index]
    return shares
