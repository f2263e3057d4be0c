"""Child processes of a fleet: a worker under a supervisor that starts it again, and the inbox that receives what workers deliver."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from app.cli.embedded_broker import free_port

#: What a supervisor waits before it starts an ended worker again.
RESTART_SECONDS = 0.3
#: A worker that ends by itself more often than this is in a crash loop; the test says so instead of waiting for nothing.
MAX_EXITS = 25
#: SIGTERM to the end of the process: DRAIN_SECONDS of delivery, 5 s of HTTP, 10 s of writing, and room for a busy machine.
STOP_SECONDS = 30.0
_TAIL_LINES = 25


async def spawn(arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """A child that appends to ``log`` and dies with the test run; no TIDINGS_ variable of the caller reaches it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**clean, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            preexec_fn=_as_child(),
        )


def _as_child() -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def before_exec() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run in the background of a script would pass on that it is ignored
        if prctl is not None:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2): dies with the test run

    return before_exec


def tail(log: Path) -> str:
    """The last lines of a log, indented under its path."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if log.exists() else []
    return f"--- {log}\n" + "\n".join(f"    {line}" for line in lines)


class Worker:
    """One worker and its supervisor. ``exits`` are the codes of the ends that nobody asked for, ``kills`` counts ours."""

    def __init__(
        self, name: str, arguments: Sequence[str], directory: Path, http: aiohttp.ClientSession, token: str, *, with_options: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = directory / f"data-{name}"
        self.log = directory / f"worker-{name}.log"
        self.exits: list[int] = []
        self.kills = 0
        #: Called with the code of each end that nobody asked for.
        self.on_exit: Callable[[int], None] = lambda code: None
        options = ["--port", str(self.port), "--data-dir", str(self.data_dir)] if with_options else []
        self._arguments = [*arguments, *options]
        self._environment = {
            "TIDINGS_SETTINGS": str(directory / "tidings.toml"),
            "TIDINGS_HTTP__PORT": str(self.port),
            "TIDINGS_WORKER__DATA_DIR": str(self.data_dir),
            **(environment or {}),
        }
        self._http = http
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = False
        self._stopped = False
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it under its supervisor; ``ready`` says when it serves."""
        assert self._supervisor is None, "it is supervised already"
        self._wanted = True
        self._process = await spawn(self._arguments, self.log, self._environment)
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervisor of {self.name}")

    async def _supervise(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            if not self._wanted:
                return
            if code != -signal.SIGKILL:
                self.exits.append(code)
                self.on_exit(code)
            await asyncio.sleep(RESTART_SECONDS)
            if not self._wanted or len(self.exits) > MAX_EXITS:
                return
            self._process = await spawn(self._arguments, self.log, self._environment)
            if not self._wanted:
                self._signal(signal.SIGKILL)  # it was told to end while it was being started, and nobody was there to hear it

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        """SIGKILL; the supervisor starts it again."""
        self.kills += 1
        self._signal(signal.SIGKILL)

    async def kill_for_good(self) -> None:
        """SIGKILL, and no supervisor: the machine is gone."""
        self._wanted = False
        self.kill()
        await self._end()

    def pause(self) -> None:
        """SIGSTOP: the process is there and does nothing; its sockets stay open."""
        self._stopped = True
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._stopped = False
        self._signal(signal.SIGCONT)

    async def terminate(self) -> int:
        """SIGTERM; the exit code. Raises AssertionError if it takes longer than STOP_SECONDS."""
        self._wanted = False
        if self._stopped:
            self.go_on()
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._end(), STOP_SECONDS)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            raise AssertionError(f"worker {self.name} did not end within {STOP_SECONDS:g} s of SIGTERM") from None
        return self._exit_code()

    async def ended(self, seconds: float) -> int:
        """The exit code of a worker that ends by itself, and is not started again. Raises AssertionError if it runs on."""
        self._wanted = False
        try:
            await asyncio.wait_for(self._end(), seconds)
        except TimeoutError:
            raise AssertionError(f"worker {self.name} still runs after {seconds:g} s") from None
        return self._exit_code()

    def _exit_code(self) -> int:
        assert self._process is not None
        assert self._process.returncode is not None
        return self._process.returncode

    async def _end(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await supervisor
        if self._process is not None:
            await self._process.wait()

    async def discard(self) -> None:
        """Whatever state it is in: gone."""
        self._wanted = False
        self._signal(signal.SIGKILL)
        await self._end()

    def _signal(self, number: int) -> None:
        if self.running:
            assert self._process is not None
            os.kill(self._process.pid, number)

    # What it says ------------------------------------------------------------------------------------------------------

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON document of a GET with the fleet's token; (0, None) while it does not answer."""
        try:
            async with self._http.get(self.url + path, headers=self._authorization) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, None

    async def post(self, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and JSON document of a POST."""
        return await self.request("POST", path, body, content_type)

    async def request(self, method: str, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and JSON document of a request with a body."""
        headers = {**self._authorization, "Content-Type": content_type}
        async with self._http.request(method, self.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def is_ready(self) -> bool:
        if len(self.exits) > MAX_EXITS:
            raise AssertionError(f"worker {self.name} ended by itself {len(self.exits)} times: {self.exits}")
        return (await self.get("/readyz"))[0] == 200

    async def owned(self) -> list[int]:
        """The partitions it says it owns; none while it is not ready."""
        status, document = await self.get("/readyz")
        return document["active_partitions"] if status == 200 else []

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all label sets that hold ``labels``."""
        async with self._http.get(self.url + "/metrics") as answer:
            text = await answer.text()
        total = 0.0
        for found in re.finditer(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
            if all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total


class InboxProcess:
    """The demo's webhook receiver as a process of its own."""

    def __init__(self, directory: Path, http: aiohttp.ClientSession, secret: str) -> None:
        self.port = free_port()
        self.log = directory / "inbox.log"
        self._http = http
        self._secret = secret
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/inbox"

    async def start(self) -> None:
        arguments = ["-m", "app.web.demo.inbox", "--port", str(self.port)]
        self._process = await spawn(arguments, self.log, {"TIDINGS_INBOX_SECRET": self._secret})

    async def is_up(self) -> bool:
        try:
            await self.stats()
        except aiohttp.ClientError:
            return False
        return True

    async def stats(self) -> dict[str, int]:
        """Counts of what it received, see app.web.demo.inbox.Inbox.stats."""
        return await self._read("stats")

    async def bodies(self) -> dict[str, dict[str, Any]]:
        """The last body by user."""
        return await self._read("bodies")

    async def _read(self, what: str) -> Any:
        async with self._http.get(f"http://127.0.0.1:{self.port}/{what}", timeout=aiohttp.ClientTimeout(total=60)) as answer:
            return orjson.loads(await answer.read())  # a month's bodies are 100 MB

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
