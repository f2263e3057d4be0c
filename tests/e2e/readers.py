"""Readers of a fleet, as a load balancer brings them: at a fixed pace, to workers that were ready once and still take connections."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp

from tests.e2e.processes import Worker

#: Between two looks of the load balancer.
LOOK_SECONDS = 0.2
READ_SECONDS = 10.0


class Readers:
    """``latencies`` in seconds, from when a read was to begin, whether or not others had ended; ``statuses`` 0 is no answer at all."""

    def __init__(self, workers: Sequence[Worker], paths: Sequence[str], per_second: float, token: str) -> None:
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.served_by: Counter[str] = Counter()
        #: What was said instead of an answer.
        self.problems: Counter[str] = Counter()
        #: The age that a standby's answers told, in seconds.
        self.ages: list[float] = []
        self._workers = workers
        self._paths = paths
        self._per_second = per_second
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool: list[str] = []
        self._turn = 0

    @property
    def share(self) -> float:
        """Of the reads, those that were answered with 200."""
        return self.statuses[200] / max(1, self.statuses.total())

    def quantile(self, part: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, math.floor(part * len(self.latencies)))]

    def __str__(self) -> str:
        told = f"{self.share:.2%} of {self.statuses.total()} reads answered with 200 ({dict(self.statuses)}), by {dict(self.served_by)}"
        oldest = f"; a standby's were at most {max(self.ages):.1f} s old" if self.ages else ""
        refused = f"; refused: {dict(self.problems.most_common(5))}" if self.problems else ""
        return f"{told}; p50 {self.quantile(0.5) * 1000:.0f} ms, p99 {self.quantile(0.99) * 1000:.0f} ms{oldest}{refused}"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """They read as long as the block lasts."""
        timeout = aiohttp.ClientTimeout(total=READ_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers, trust_env=False) as session:
            await self._look(session)
            tasks = [asyncio.create_task(self._balance(session)), asyncio.create_task(self._read_on(session))]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                        raise ended

    async def _balance(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look(session)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        for worker in self._workers:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(worker.url + "/readyz", timeout=aiohttp.ClientTimeout(total=1)) as answer:
                    if answer.status == 200 and worker.url not in self._pool:
                        self._pool.append(worker.url)

    async def _read_on(self, session: aiohttp.ClientSession) -> None:
        began, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as reads:
            try:
                while True:
                    due = began + count / self._per_second
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    reads.create_task(self._read(session, self._paths[count % len(self._paths)], due))
                    count += 1
            except asyncio.CancelledError:
                return  # those under way end

    async def _read(self, session: aiohttp.ClientSession, path: str, due: float) -> None:
        status = 0
        for _ in range(2):
            if not self._pool:
                break
            self._turn += 1
            url = self._pool[self._turn % len(self._pool)]
            try:
                async with session.get(url + path) as answer:
                    document = await answer.json(content_type=None)
                    status = answer.status
                    if status != 200:
                        self.problems[f"{document['type']}: {document['detail']}"[:140]] += 1
                    self._note(answer)
                break
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                # It takes no connection, or died with ours: another has the read, and this one comes back when it is ready.
                if url in self._pool:
                    self._pool.remove(url)
            except TimeoutError:
                break
        self.statuses[status] += 1
        self.latencies.append(time.monotonic() - due)

    def _note(self, answer: aiohttp.ClientResponse) -> None:
        who = answer.headers.get("Tidings-Served-By", "nobody")
        self.served_by[who] += 1
        if who == "standby" and (at := answer.headers.get("Tidings-Current-To")):
            self.ages.append((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
