"""The settings of the worker that is measured: the defaults, on names of the run's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Not secrets: they guard nothing but a benchmark on this machine.
ENVIRONMENT: Mapping[str, str] = {"BENCH_WEBHOOK_SECRET": "whsec_" + "A" * 32, "BENCH_TOKEN": "a-token-of-the-benchmark"}


def worker_settings(
    *, name: str, bootstrap_servers: str, partitions: int, data_dir: Path, port: int = 0, webhook_url: str = "",
    targets: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """As a settings file has them: topics and group are called ``name``; no target without ``webhook_url``."""
    target = {
        "name": "bench", "url": webhook_url, "secret": "env:BENCH_WEBHOOK_SECRET",
        "allow_http": True, "concurrency": 32,  # a local receiver stands more than the eight of the default
    }
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers, "application_id": name, "topic_prefix": name, "partitions": partitions},
        "worker": {"data_dir": str(data_dir)},
        "http": {"port": port},
        "delivery": {"allow_networks": ["127.0.0.0/8"]},
        "tokens": [{"name": "bench", "token": "env:BENCH_TOKEN", "scopes": ["ingest", "read", "operate"]}],
        "targets": [*([target] if webhook_url else []), *targets],
    }


def as_toml(settings: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for section, content in settings.items():
        for table in content if isinstance(content, list) else [content]:
            lines.append(f"[[{section}]]" if isinstance(content, list) else f"[{section}]")
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case _:
            return str(value).replace("'", '"')
