"""The rate at which a destination throttles, felt for: nobody declared it, or what was declared is not so.

Nothing is known, and nothing limited, before the first throttling. Each *incident* (a throttling, and those that follow before a probe
succeeds) shows anew where the *ceiling* is. Below it requests are spaced evenly; the rate comes quickly up to just below the ceiling, rests
there, as long as the time since the incident before suggests, and then feels its way across: first slowly, and, once well above where it
was throttled before, faster and faster. So a limit that was halved costs a few throttled requests, one that was doubled is found within a
minute or two, and one that stays as it is costs one incident in half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.spacing import Spacing

# The numbers below are those with which tests/unit/delivery/test_hidden_limits.py uses most of limits of many kinds; most may be a third
# larger or smaller without much harm.

#: Where the rate rests, as a part of the ceiling, if one worker is the whole fleet; and at least, however small its share is.
BELOW, LEAST_BELOW = 0.98, 0.9
#: Beyond this part of the ceiling it is on new ground: the limit seems to have grown.
ABOVE = 1.02
#: How long the rate rests: twice as long after each incident at about the same place, and for so many requests at least, for the incident
#: that follows costs one or two.
MIN_REST_MS, MAX_REST_MS, LONGEST_REST_MS, REST_REQUESTS = 5_000, 20_000, 120_000, 220
#: How long it takes across, from BELOW to ABOVE.
CREEP_MS = 20_000
#: On new ground, it grows by this times its lead over ABOVE, as a part of itself a second...
ACCELERATION = 0.5
#: ...and by no more than the first of these; by the second, where it was throttled soon after it resumed and is above the third part of
#: its ceiling.
FAST, CAREFUL, FAR_BELOW = 0.12, 0.015, 0.8
#: A throttling is for what was done so long before: how far the rate has grown since is taken off.
LAG_SECONDS = 0.6

#: Runs that are shorter than this say that the rate is far too high: it is cut to these parts of the ceiling, one after the other.
SHORT_RUN_MS, SHORT_CUTS = 4_000, (0.94, 0.85, 0.7)
#: Shorter than this, that it is a little too high; the second such run in a row and those that follow lower the ceiling too.
HASTY_RUN_MS, HASTY_CUT, HASTY_CEILINGS = 10_000, 0.92, (0.95, 0.9)
#: After a throttling on new ground, where it came fast.
NEW_GROUND_CUT = 0.88

#: If this much of the remembered time was spent in pauses that were needed, the destination counts over long windows: it takes what it
#: took on average, whatever the rate at which it was throttled.
LONG_PAUSES = 0.3
#: What is remembered: the last one to two of these.
MEMORY_MS = 60_000
#: A first pause of this length that was asked for, or found necessary, tells how the destination counts; a shorter one may have been
#: rounded up from nothing.
SURE_PAUSE_MS = 4_000
#: Where pauses were so long, the way across takes longer too, in proportion, up to so many times.
MAX_PATIENCE = 3.0
#: No chain of cuts leads below this part of what was taken on average.
LEAST_OF_AVERAGE = 0.4

#: Requests may come so much earlier than evenly spaced: an event loop does not wake to the millisecond.
BURST_MS = 40
#: A probe without an answer is given up after so long.
PROBE_MS = 10_000
#: Who waits for the answer to the probe asks again after so long at the latest.
PROBE_LOOK_MS = 200
#: Requests a second over the fleet; there is always some.
MIN_RATE, MAX_RATE = 0.02, 1e6
#: The first incident teaches no lower rate: what was sent while there was little to send says nothing of what may be sent.
FIRST_LEAST_RATE = 1.0


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
        self.short_runs = self._hasty_runs = 0
        self._pause_seen_ms = 0.0
        self._is_careful = False
        self._probe_since_ms: int | None = None
        # Growth.
        self._rest_ms = float(MIN_REST_MS)
        self._rested_ms = 0.0
        self._growth = 0.0
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
        """The probe succeeded: the incident shows where the ceiling is."""
        self._is_open = False
        self._lately.paused_ms += now_ms - self._began_ms
        self._lately.needed_ms += self._needed_ms
        self._pause_seen_ms = max(float(self._needed_ms), 0.9 * self._pause_seen_ms)
        if self.rate is None:
            self.ceiling, rate = self._first(now_ms)
        else:
            self.ceiling, rate = self._next(now_ms, self.rate)
        self.ceiling, self.rate = max(MIN_RATE, self.ceiling), max(MIN_RATE, rate)
        self._rested_ms = 0.0
        self._ran_since_ms = self._grew_ms = now_ms
        self._spacing = Spacing(BURST_MS)
        self._spacing.took(now_ms, 1000 / (self.rate * self._share))

    def _first(self, now_ms: int) -> tuple[float, float]:
        """Ceiling and rate after the first incident of all, before which nothing was limited."""
        average, takes, _ = self._remembered(now_ms)
        rate = max(FIRST_LEAST_RATE, min(average, BELOW * takes))
        return (max(rate, takes) if self._needed_ms >= SURE_PAUSE_MS else MAX_RATE), rate

    def _next(self, now_ms: int, rate_then: float) -> tuple[float, float]:
        """Ceiling and rate after an incident at this rate."""
        ran_ms, old_ceiling, below = self._began_ms - self._ran_since_ms, self.ceiling, self._below()
        is_hasty, is_new_ground = ran_ms < HASTY_RUN_MS, rate_then > ABOVE * old_ceiling or old_ceiling == MAX_RATE
        self.short_runs = self.short_runs + 1 if ran_ms < SHORT_RUN_MS else 0
        self._hasty_runs = self._hasty_runs + 1 if is_hasty else 0
        self._rest_ms = MIN_REST_MS if is_new_ground else min(max(MIN_REST_MS, 2 * self._rest_ms), MAX_REST_MS)

        ceiling = rate_then / (1 + LAG_SECONDS * self._growth)
        if self._hasty_runs > 1:
            ceiling *= HASTY_CEILINGS[min(self._hasty_runs, 3) - 2]
        cut = below
        if self.short_runs:
            cut = SHORT_CUTS[min(self.short_runs, len(SHORT_CUTS)) - 1]
        elif is_new_ground:
            cut = NEW_GROUND_CUT
        elif is_hasty:
            cut = HASTY_CUT
        self._is_careful = cut < BELOW
        rate = ceiling * min(cut, below)
        if is_new_ground and not is_hasty and old_ceiling < MAX_RATE:
            rate = max(rate, below * min(ceiling, old_ceiling))  # where it rested before was safe

        average, takes, long_pauses = self._remembered(now_ms)
        if long_pauses > LONG_PAUSES and takes < rate_then:
            ceiling, rate = takes, min(rate, BELOW * takes)
        return ceiling, max(rate, min(LEAST_OF_AVERAGE * average, BELOW * ceiling))

    def _remembered(self, now_ms: int) -> tuple[float, float, float]:
        """Requests a second that were taken, over all the time, and over that without pauses that were not needed; the part of the time
        that was spent in those that were.
        """
        stretches = {id(s): s for s in (self._before, self._lately)}.values()
        taken, paused_ms, needed_ms = (sum(getattr(s, name) for s in stretches) for name in ("taken", "paused_ms", "needed_ms"))
        all_ms = max(1, now_ms - self._before.since_ms)
        to_rate = 1000 * taken / self._share
        return to_rate / all_ms, to_rate / max(1, all_ms - paused_ms + needed_ms), needed_ms / all_ms

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
        patience = min(max(1.0, self._pause_seen_ms / SURE_PAUSE_MS), MAX_PATIENCE)
        if self.rate < below:
            self._growth = FAST if place < FAR_BELOW or not self._is_careful else CAREFUL
        elif self._rested_ms < rest_ms:
            self._rested_ms += passed_ms
            self._growth = 0.0
        else:
            creep = (ABOVE - BELOW) * 1000 / min(max(MIN_REST_MS, rest_ms), CREEP_MS)
            self._growth = min(FAST, creep + max(0.0, place - ABOVE) * ACCELERATION) / patience
        grown = self.rate * (1 + self._growth * passed_ms / 1000)
        self.rate = min(MAX_RATE, grown if self.rate >= below else min(below, grown))

