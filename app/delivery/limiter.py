"""How many requests go to a destination, and when: its declared windows, what its headers say, and what its throttling teaches.

Pure over a clock. Everything is divided over the fleet by the share of partitions that a worker owns, so that workers need not talk.
What nobody declared is learned: app/delivery/learned_rate.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from app.delivery import retry
from app.delivery.breaker import PARK_BEYOND_MS
from app.delivery.learned_rate import LearnedRate
from app.delivery.spacing import Spacing
from app.destinations.limits import Limits, Quota, Window

#: A burst after a quiet time may take so much of a window at once, at most so long a stretch of it; what follows is spaced evenly. A
#: worker whose share grew waits as long, since the former owner may just have had its burst.
BURST_SHARE = 0.25
MAX_BURST_MS = 2_500
#: Entries a window's account has at most: requests of one such piece of the window count as made at its end.
ACCOUNT_PIECES = 128
#: While a share grows, ask again after so long.
GROWING_LOOK_MS = 50
#: Without any limit, the clock is read once for so many requests: a webhook receiver may take thousands a second.
FREE_STEP = 64
#: What counts as the share of a worker that gave its last partition up while it made the request.
LEAST_SHARE = 1e-3
#: Who owns nothing asks again after so long.
NO_SHARE_MS = 1_000


class Limiter:
    """One destination's limits, on one worker. Ask ``wait_ms`` before each request, and say ``took`` when it begins."""

    def __init__(self, limits: Limits, share: Callable[[], float], clock: Callable[[], int]) -> None:
        """``share``: the part of the fleet's partitions that this worker owns, 0 to 1. ``clock``: milliseconds since 1970."""
        self._limits = limits
        self._share = share
        self._clock = clock
        self._accounts = [Account(window, clock()) for window in limits.windows]
        self._learned = LearnedRate(clock())
        self._quota: QuotaLeft | None = None
        self._throttles_in_a_row = 0
        self._paused_until_ms = 0
        #: Nothing limits: no window is declared, and the destination never said a word.
        self._is_free = not self._accounts
        self._free_taken = 0

    def wait_ms(self, people: int = 1) -> int:
        """How long a request with so many people has to wait; 0: it may go now. Ask again then: something may have changed.

        To be asked after each change of the share too, or one that comes back as it was goes unnoticed.
        """
        if self._is_free:
            return 0
        now_ms, share = self._clock(), self._share()
        for account in self._accounts:
            account.owns(share, now_ms)
        if share <= 0:
            return NO_SHARE_MS
        wait_ms = max(self._paused_until_ms - now_ms, self._learned.wait_ms(now_ms, share))
        if self._quota is not None:
            wait_ms = max(wait_ms, self._quota.wait_ms(now_ms))
        for account in self._accounts:
            wait_ms = max(wait_ms, account.wait_ms(now_ms, share, people))
        return max(0, wait_ms)

    def took(self, people: int = 1) -> None:
        """A request with so many people begins."""
        if self._is_free:
            return
        now_ms, share = self._clock(), self._share() or LEAST_SHARE
        self._learned.took(now_ms, share)
        if self._quota is not None:
            self._quota.took(now_ms)
        for account in self._accounts:
            account.took(now_ms, share, people)

    def succeeded(self) -> None:
        """The destination took a request: it was answered, and not with a wish for fewer."""
        if self._is_free:
            self._free_taken += 1
            if self._free_taken == FREE_STEP:
                self._leave_free_step()
            return
        now_ms = self._clock()
        if self._throttles_in_a_row and now_ms >= self._paused_until_ms:  # and not one that was on the wire beside the throttled one
            self._throttles_in_a_row = 0
        self._learned.succeeded(now_ms)

    def throttled(self, after_ms: int | None) -> int:
        """The destination asked for fewer requests, and for none in ``after_ms`` (None: it did not say how long). Returns for how long
        nothing goes there, in milliseconds, at most PARK_BEYOND_MS: for whom asked for more, park the breaker.
        """
        self._leave_free_step()
        now_ms, self._is_free = self._clock(), False
        left_ms = self._paused_until_ms - now_ms
        if left_ms > 0 and after_ms is None:
            return left_ms  # it was on the wire when another was throttled: the same incident
        if left_ms <= 0:
            self._throttles_in_a_row += 1
        pause_ms = min(self._pause_ms(after_ms, now_ms), PARK_BEYOND_MS)
        self._paused_until_ms = max(self._paused_until_ms, now_ms + pause_ms)
        self._learned.throttled(now_ms, self._paused_until_ms, after_ms, self._share())
        return self._paused_until_ms - now_ms

    def set_back(self, by_ms: int) -> None:
        """The clock was: a pause lasts as long as it would have. The rest forgets by itself what lies ahead of the time."""
        self._paused_until_ms -= by_ms

    def told(self, quota: Quota) -> None:
        """What the headers of an answer said of the requests that are left to the fleet."""
        self._leave_free_step()
        now_ms, self._is_free = self._clock(), False
        if self._quota is None or not self._quota.is_same_window(quota, now_ms):
            self._quota = QuotaLeft(now_ms)
        self._quota.told(quota, now_ms, self._share())

    def concurrency(self) -> int:
        """Requests on the wire at once, from this worker, now: 0 if it owns nothing."""
        if not self._limits.is_shared:
            return self._limits.concurrency
        share = self._share()
        return max(1, _whole(self._limits.concurrency * share)) if share > 0 else 0

    def most_people(self) -> int:
        """How many people one request may hold so that it fits into this worker's part of each window; at least 1."""
        share = self._share()
        rooms = [_whole(account.window.amount * share) for account in self._accounts if account.window.counts == "people"]
        return max(1, min([self._limits.people, *rooms]))

    def _leave_free_step(self) -> None:
        if self._free_taken:
            self._learned.succeeded(self._clock(), self._free_taken)
            self._free_taken = 0

    def _pause_ms(self, after_ms: int | None, now_ms: int) -> int:
        if after_ms is None and self._learned.is_known:
            # The rate is known, and was felt for: the way back is short.
            doubled_ms = retry.MIN_PAUSE_MS * 2 ** min(self._throttles_in_a_row - 1, 20)
            return min(max(doubled_ms, self._learned.pause_ms()), retry.MAX_SILENT_PAUSE_MS)
        return retry.pause_ms(after_ms, self._throttles_in_a_row, jitter=retry.jitter_of(now_ms))


class Account:
    """What this worker took of one declared window.

    A fixed window is kept as if it were a rolling one: who keeps to the amount in any stretch of so many seconds keeps to it in those
    that begin at full multiples too, whatever the clock over there shows.
    """

    def __init__(self, window: Window, now_ms: int) -> None:
        self.window = window
        self._ms = window.seconds * 1000
        self._burst_ms = min(BURST_SHARE * self._ms, MAX_BURST_MS)
        self._piece_ms = self._ms / ACCOUNT_PIECES
        #: (when it falls out of the window, how much), the oldest first; at most ACCOUNT_PIECES and two.
        self._taken: deque[tuple[int, int]] = deque()
        self._used = 0
        self._spacing = Spacing(self._burst_ms)
        self._share = self._share_before = 0.0
        self._changed_at_ms = now_ms

    def wait_ms(self, now_ms: int, share: float, people: int) -> int:
        """Until so many people, or one request, have room."""
        count, amount = self._count(people), self.window.amount * share
        if not count:
            return 0
        self._forget(now_ms)
        growing = self._grown(now_ms)
        room = _whole(self.window.amount * growing)
        if count > _whole(amount):
            # Larger than what this worker may send in a window: it goes alone, and takes as many windows as it needs.
            room = count if growing == share else 0
        interval_ms = count * self._ms / amount
        wait_ms = self._spacing.wait_ms(now_ms, interval_ms)
        if self._used + count <= room:
            return wait_ms
        if growing < share:
            return max(wait_ms, GROWING_LOOK_MS)
        falls_ms = self._taken[0][0]
        self._spacing.no_burst(falls_ms, interval_ms)
        return max(wait_ms, falls_ms - now_ms)

    def took(self, now_ms: int, share: float, people: int) -> None:
        count = self._count(people)
        self._used += count
        falls_ms = math.ceil(math.ceil((now_ms + self._ms) / self._piece_ms) * self._piece_ms)
        if self._taken and self._taken[-1][0] == falls_ms:
            count += self._taken.pop()[1]
        self._taken.append((falls_ms, count))
        self._spacing.took(now_ms, self._count(people) * self._ms / (self.window.amount * share))

    def _count(self, people: int) -> int:
        return people if self.window.counts == "people" else 1

    def _forget(self, now_ms: int) -> None:
        latest_ms = now_ms + self._ms + self._piece_ms + 1  # later ones are of a clock that was set back
        while self._taken and not now_ms < self._taken[0][0] <= latest_ms:
            self._used -= self._taken.popleft()[1]

    def owns(self, share: float, now_ms: int) -> None:
        """This worker's share. A smaller one counts at once; a larger one not for the time of a burst, and then more and more, until
        a window has passed: what the former owner took falls out of the window meanwhile. A new process begins with none.
        """
        if share != self._share:
            self._share_before = min(self._grown(now_ms), share)
            self._share, self._changed_at_ms = share, now_ms
        self._changed_at_ms = min(self._changed_at_ms, now_ms)

    def _grown(self, now_ms: int) -> float:
        since_ms = now_ms - self._changed_at_ms
        if since_ms >= self._ms:
            return self._share
        grown = max(0.0, since_ms - self._burst_ms) / self._ms  # the former owner's last burst stays to the end
        return self._share_before + grown * (self._share - self._share_before)


class QuotaLeft:
    """What is left to this worker until the destination counts anew, spread over the time until then."""

    #: Two answers speak of the same window if their ends differ by no more: headers count in whole seconds.
    SAME_WINDOW_MS = 1_500

    def __init__(self, now_ms: int) -> None:
        self._left = math.inf
        self._resets_at_ms = now_ms
        self._interval_ms = 0.0
        self._spacing = Spacing(MAX_BURST_MS)

    def is_same_window(self, quota: Quota, now_ms: int) -> bool:
        return now_ms < self._resets_at_ms and abs(now_ms + quota.resets_in_ms - self._resets_at_ms) <= self.SAME_WINDOW_MS

    def told(self, quota: Quota, now_ms: int, share: float) -> None:
        """Answers overtake one another, so the least that was said of a window counts."""
        self._resets_at_ms = max(self._resets_at_ms, now_ms + min(quota.resets_in_ms, PARK_BEYOND_MS))
        self._left = min(self._left, _whole(quota.remaining * share))
        self._interval_ms = (self._resets_at_ms - now_ms) / max(1, self._left)

    def wait_ms(self, now_ms: int) -> int:
        left_ms = self._resets_at_ms - now_ms
        if left_ms <= 0:
            return 0  # it counts anew
        return left_ms if self._left < 1 else min(left_ms, self._spacing.wait_ms(now_ms, self._interval_ms))

    def took(self, now_ms: int) -> None:
        self._left -= 1
        self._spacing.took(now_ms, self._interval_ms)


def _whole(amount: float) -> int:
    """Rounded down: shares are fractions of partitions, and three times a third is one."""
    return math.floor(amount + 1e-9)
