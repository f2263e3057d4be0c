"""The rate at which a destination throttles, felt for: nobody declared it, or what was declared is not so.

Nothing is known, and nothing limited, before the first throttling. Each *incident* (a throttling, and those that follow before a probe
succeeds) shows anew where the *ceiling* is. Below it requests are spaced evenly; the rate comes quickly up to just below the ceiling, rests
there, as long as the time since the incident before suggests, and then feels its way across: first slowly, and, once well above where it
was throttled before, faster and faster. So a limit that was halved costs a few throttled requests, one that was doubled is found within a
minute, and one that stays as it is costs one incident in half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.spacing import Spacing

#: Where the rate rests, and where it counts as past the ceiling.
BELOW, LEAST_BELOW, ABOVE = 0.98, 0.9, 1.04
#: It grows by so much a second where there is no reason for care, and by so much where it was throttled soon after it resumed.
FAST, CAREFUL, FAR_BELOW = 0.12, 0.015, 0.8
#: A rest is as long as the run before the incident, within these, and at least so many requests: each ends with a throttled one.
MIN_REST_MS, MAX_REST_MS, REST_REQUESTS = 5_000, 20_000, 160
LONGEST_REST_MS = 120_000
#: A run that is shorter than this says that the rate is far too high: cut to the first of these, and for more such runs to the second.
SHORT_RUN_MS = 4_000
CUTS = (0.85, 0.7)
MEDIUM_RUN_MS, MEDIUM_CUT = 10_000, 0.92
NEW_GROUND_CUT = 0.88
SURE_PAUSE_MS = 4_000
MAX_PATIENCE = 3.0
LEAST_OF_AVERAGE = 0.4
#: If this much of the remembered time was spent in pauses that were needed, the destination counts over long windows: what it takes is
#: what it took on average, not the rate at which it was throttled.
LONG_PAUSES = 0.3
#: What is remembered: the last one to two of these.
MEMORY_MS = 60_000
#: Requests may come so much earlier than evenly spaced: an event loop does not wake to the millisecond.
BURST_MS = 40
#: A probe without an answer is given up after so long.
PROBE_MS = 10_000
#: Who waits for the answer to the probe asks again after so long at the latest.
PROBE_LOOK_MS = 200
#: Requests a second over the fleet; there is always some.
MIN_RATE, MAX_RATE = 0.02, 1e6


@dataclass(slots=True)
class _Stretch:
    """What happened since then: requests taken, and milliseconds in pauses: all, and those that were needed."""

    since_ms: int
    taken: int = 0
    paused_ms: int = 0
    needed_ms: int = 0


class LearnedRate:
    """Rates are requests a second over the whole fleet, as far as this worker can tell from what its own share of it did."""

    def __init__(self, now_ms: int) -> None:
        self.rate: float | None = None
        self.ceiling = MAX_RATE
        self._spacing = Spacing(BURST_MS)
        self._before = self._lately = _Stretch(now_ms)
        # The incident, and the run from the end of the one before to it.
        self._is_open = False
        self._began_ms = self._resumes_ms = self._ran_since_ms = now_ms
        self._needed_ms = 0
        self._share = 1.0
        self.short_runs = 0
        self._pause_seen_ms = 0.0
        self._is_careful = False
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

    def pause_ms(self) -> int:
        """How long a pause is worth while, if the destination does not say: longer where it counts over long windows and has just begun
        to take something again.
        """
        return round(self._pause_seen_ms / 8) if self.short_runs else 0

    def succeeded(self, now_ms: int, count: int = 1) -> None:
        """So many requests were answered, and not with a throttling."""
        self._lately.taken += count
        if now_ms - self._lately.since_ms >= MEMORY_MS and not self._is_open:
            self._before, self._lately = self._lately, _Stretch(now_ms)
        if not self._is_open:
            self._grow(now_ms)
        elif now_ms >= self._resumes_ms and self._probe_since_ms is not None:
            self._close(now_ms)

    def throttled(self, now_ms: int, resumes_ms: int, asked_ms: int | None, share: float) -> None:
        """A request was throttled; nothing goes out before ``resumes_ms``, ``asked_ms`` of which the destination asked for."""
        if not self._is_open:
            self._is_open = True
            self._began_ms, self._needed_ms = now_ms, 0
            self._share = share or 1.0
        self._needed_ms = max(self._needed_ms, now_ms - self._began_ms + (asked_ms or 0))
        self._resumes_ms = resumes_ms
        self._probe_since_ms = None

    def _close(self, now_ms: int) -> None:
        """The probe succeeded: what was taken, in what time, says what the destination takes."""
        self._is_open = False
        self._lately.paused_ms += now_ms - self._began_ms
        self._lately.needed_ms += self._needed_ms
        stretches = [self._lately] if self._before is self._lately else [self._before, self._lately]
        taken, paused_ms, needed_ms = (sum(getattr(s, n) for s in stretches) for n in ("taken", "paused_ms", "needed_ms"))
        all_ms = max(1, now_ms - stretches[0].since_ms)
        average = 1000 * taken / all_ms / self._share
        takes = 1000 * taken / max(1, all_ms - paused_ms + needed_ms) / self._share
        ran_ms = self._began_ms - self._ran_since_ms
        self._pause_seen_ms = max(float(self._needed_ms), 0.9 * self._pause_seen_ms)
        if self.rate is None:
            # A pause of a second may have been rounded up from nothing; a long one tells how the destination counts.
            is_sure = self._needed_ms >= SURE_PAUSE_MS
            self.ceiling, rate = (takes if is_sure else MAX_RATE), min(average, BELOW * takes)
            self._rest_ms = MIN_REST_MS
        else:
            is_new_ground = self.rate > ABOVE * self.ceiling or self.ceiling == MAX_RATE
            self.short_runs = self.short_runs + 1 if ran_ms < SHORT_RUN_MS else 0
            self._rest_ms = MIN_REST_MS if is_new_ground else min(max(MIN_REST_MS, 2 * self._rest_ms), MAX_REST_MS)
            cut = self._below()
            if self.short_runs:
                cut = CUTS[min(self.short_runs, len(CUTS)) - 1]
            elif is_new_ground:
                cut = NEW_GROUND_CUT
            elif ran_ms < MEDIUM_RUN_MS:
                cut = MEDIUM_CUT
            self.ceiling, rate = self.rate, self.rate * min(cut, self._below())
            self._is_careful = cut < BELOW
            if needed_ms > LONG_PAUSES * all_ms and takes < self.rate:
                self.ceiling, rate = takes, min(rate, BELOW * takes)
            rate = max(rate, min(LEAST_OF_AVERAGE * average, BELOW * self.ceiling))
        self.ceiling, self.rate = max(MIN_RATE, self.ceiling), max(MIN_RATE, rate)
        self._rested_ms = 0.0
        self._ran_since_ms = self._grew_ms = now_ms
        self._spacing = Spacing(BURST_MS)
        self._spacing.took(now_ms, 1000 / (self.rate * self._share))

    def _below(self) -> float:
        """Where this worker's rate rests, as a part of its ceiling: the fleet's goes down by 1 - BELOW if only this worker's does."""
        return max(LEAST_BELOW, 1 - (1 - BELOW) / self._share)

    def _grow(self, now_ms: int) -> None:
        """Upward, while it is this rate that limits, and only then: what is not used teaches nothing."""
        passed_ms = min(max(0, now_ms - self._grew_ms), 1000)
        self._grew_ms = now_ms
        if self.rate is None or now_ms > self._limited_ms + 1000:
            return
        rest_ms = self._rest_ms
        if rest_ms > MIN_REST_MS:
            rest_ms = min(max(rest_ms, 1000 * REST_REQUESTS / (self.rate * self._share)), LONGEST_REST_MS)
        below, place = self._below() * self.ceiling, self.rate / self.ceiling
        if self.rate < below:
            by = FAST if place < FAR_BELOW or not self._is_careful else CAREFUL
            self.rate = min(below, self.rate * (1 + by * passed_ms / 1000))
        elif self._rested_ms < rest_ms:
            self._rested_ms += passed_ms
        else:
            patience = min(max(1.0, self._pause_seen_ms / SURE_PAUSE_MS), MAX_PATIENCE)
            by = min(FAST, (ABOVE - BELOW) * 1000 / max(MIN_REST_MS, rest_ms / 3) + max(0.0, place - ABOVE) / 2) / patience
            self.rate = min(MAX_RATE, self.rate * (1 + by * passed_ms / 1000))
