"""The rate at which a destination throttles, felt for: nobody declared it, or what was declared is not so.

Nothing is known, and nothing limited, before the first throttling. Each *incident* (a throttling, and those that follow before a probe
succeeds) measures anew what the destination takes: the *ceiling*. Below it requests are spaced evenly, at first at what was taken on
average, then quickly up to just below the ceiling; there the rate rests, as long as the time since the incident before suggests, and then
feels its way across: first slowly, and, once well above where it was throttled before, faster and faster. So a limit that was halved costs
a few throttled requests, one that was doubled is found within a minute, and one that stays as it is costs one incident in half a minute.
"""

from __future__ import annotations

from app.delivery.spacing import Spacing

#: Where the rate rests, and where it counts as past the ceiling.
BELOW, ABOVE = 0.97, 1.04
#: It grows by so much a second where there is no reason for care.
FAST = 0.15
#: A rest is as long as the run before the incident, within these, and at least so many requests: each ends with a throttled one.
MIN_REST_MS, MAX_REST_MS, REST_REQUESTS = 2_000, 25_000, 120
LONGEST_REST_MS = 120_000
#: A run that is shorter than this says that the rate was far too high.
SHORT_RUN_MS = 2_500
SHORT_RUN_CUT = 0.75
#: A pause that was asked for, or found necessary, counts as part of the window if it is more than this share of the run.
LONG_PAUSE_SHARE = 0.05
#: What is remembered of a run: the last one to two of these.
MEMORY_MS = 60_000
#: Requests may come so much earlier than evenly spaced: an event loop does not wake to the millisecond.
BURST_MS = 40
#: A probe without an answer is given up after so long.
PROBE_MS = 10_000
#: Who waits for the answer to the probe asks again after so long at the latest.
PROBE_LOOK_MS = 200
#: Requests a second over the fleet; there is always some.
MIN_RATE, MAX_RATE = 0.02, 1e6


class LearnedRate:
    """Rates are requests a second over the whole fleet, as far as this worker can tell from what its own share of it did."""

    def __init__(self, now_ms: int) -> None:
        self.rate: float | None = None
        self.ceiling = MAX_RATE
        self._spacing = Spacing(BURST_MS)
        # The run: what was taken since the last incident.
        self._run_since_ms = self._half_since_ms = now_ms
        self._before_half = self._in_half = 0
        # The incident.
        self._is_open = False
        self._began_ms = self._resumes_ms = 0
        self._needed_ms = 0
        self._run_ms, self._run_taken = 1, 0
        self._share = 1.0
        self._probe_since_ms: int | None = None
        # Growth.
        self._rest_ms = float(MIN_REST_MS)
        self._rested_ms = 0.0
        self._limited_ms = 0
        self._grew_ms = now_ms

    @property
    def is_known(self) -> bool:
        return self.rate is not None

    def wait_ms(self, now_ms: int, share: float) -> int:
        """Until the next request may go; pauses are the caller's."""
        if self._is_open and now_ms >= self._resumes_ms:
            if self._probe_since_ms is None or not 0 <= now_ms - self._probe_since_ms < PROBE_MS:
                return 0
            return PROBE_LOOK_MS
        if self.rate is None:
            return 0
        wait_ms = self._spacing.wait_ms(now_ms, 1000 / (self.rate * share))
        if wait_ms:
            self._limited_ms = now_ms + wait_ms
        return wait_ms

    def took(self, now_ms: int, share: float) -> None:
        """A request begins."""
        if self._is_open:
            self._probe_since_ms = now_ms
        if self.rate is not None:
            self._spacing.took(now_ms, 1000 / (self.rate * share))

    def succeeded(self, now_ms: int, count: int = 1) -> None:
        """So many requests were answered, and not with a throttling."""
        if self._is_open:
            if now_ms >= self._resumes_ms and self._probe_since_ms is not None:
                self._close(now_ms)
            return
        self._in_half += count
        if now_ms - self._half_since_ms >= MEMORY_MS:
            self._run_since_ms, self._before_half = self._half_since_ms, self._in_half
            self._half_since_ms, self._in_half = now_ms, 0
        if self.rate is not None:
            self._grow(now_ms)

    def throttled(self, now_ms: int, resumes_ms: int, asked_ms: int | None, share: float) -> None:
        """A request was throttled; nothing goes out before ``resumes_ms``, ``asked_ms`` of which the destination asked for."""
        if not self._is_open:
            self._is_open = True
            self._began_ms, self._needed_ms = now_ms, 0
            self._run_ms = max(1, now_ms - self._run_since_ms)
            self._run_taken = self._before_half + self._in_half
            self._share = share or 1.0
        self._needed_ms = max(self._needed_ms, now_ms - self._began_ms + (asked_ms or 0))
        self._resumes_ms = resumes_ms
        self._probe_since_ms = None

    def _close(self, now_ms: int) -> None:
        """The probe succeeded: what was taken, in what time, says what the destination takes."""
        to_fleet = 1000 / self._share
        average = to_fleet * self._run_taken / (self._run_ms + now_ms - self._began_ms)
        with_pause = to_fleet * self._run_taken / (self._run_ms + self._needed_ms)
        if self.rate is None:
            self.ceiling, rate = with_pause, average
            self._rest_ms = MIN_REST_MS
        else:
            self.ceiling = self.rate
            if self._needed_ms > LONG_PAUSE_SHARE * self._run_ms:
                self.ceiling = min(self.ceiling, max(with_pause, self.rate / 4))
            if self._run_ms < SHORT_RUN_MS:
                self.ceiling = min(self.ceiling, SHORT_RUN_CUT * self.rate)
            rate = BELOW * self.ceiling
            self._rest_ms = max(MIN_REST_MS, min(self._run_ms, MAX_REST_MS))
        self.ceiling = max(MIN_RATE, self.ceiling)
        self.rate = max(MIN_RATE, min(rate, BELOW * self.ceiling))
        self._rested_ms = 0.0
        self._is_open = False
        self._run_since_ms = self._half_since_ms = self._grew_ms = now_ms
        self._before_half, self._in_half = 0, 1
        self._spacing = Spacing(BURST_MS)
        self._spacing.took(now_ms, 1000 / (self.rate * self._share))

    def _grow(self, now_ms: int) -> None:
        """Upward, while it is this rate that limits, and only then: what is not used teaches nothing."""
        assert self.rate is not None
        passed_ms = min(max(0, now_ms - self._grew_ms), 1000)
        self._grew_ms = now_ms
        if now_ms > self._limited_ms + 1000:
            return
        rest_ms = min(max(self._rest_ms, 1000 * REST_REQUESTS / (self.rate * self._share)), LONGEST_REST_MS)
        place = self.rate / self.ceiling
        if place < BELOW:
            by = min(FAST, BELOW / place - 1)
        elif self._rested_ms < rest_ms:
            self._rested_ms += passed_ms
            return
        else:
            by = min(FAST, (ABOVE - BELOW) * 1000 / rest_ms + max(0.0, place - ABOVE) / 2)
        self.rate = min(MAX_RATE, self.rate * (1 + by * passed_ms / 1000))
