"""What a worker holds in memory, by part: what an operator compares with the bounds of docs/memory.md.

The parts are what grows with the work. What is resident beside them is the interpreter, what is imported, and what the allocator keeps.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.engine.store import database_memory_bytes

if TYPE_CHECKING:
    from app.engine.app import EngineApp


def memory_parts(app: EngineApp) -> dict[str, int]:
    """By name, in bytes: as the metric tidings_memory_bytes says. Some tens of microseconds."""
    parts = {
        "resident": 0,
        "rocksdb": database_memory_bytes(app.options.block_cache_bytes),
        "unwritten": app.unwritten_bytes.bytes,
        "fetched": 0 if app.reader is None else app.reader.waiting_bytes,
    }
    with suppress(OSError):  # not Linux
        parts["resident"] = resident_bytes()
    return parts | {f"decoded_{table.name}": table.kept_bytes for table in app.tables.values()}  # type: ignore[attr-defined]


def resident_bytes(pid: int | str = "self") -> int:
    """Of a process, by default this one. Raises OSError where there is none, or the system does not say (it is not Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
