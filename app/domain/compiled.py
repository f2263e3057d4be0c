"""Extensions that are used where they could be built when Tidings was installed; whoever uses one can do without."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


def compiled(name: str, interface: int) -> ModuleType | None:
    """The extension of this name. None: there is none, or it was built from other sources and has another interface."""
    try:
        found = import_module(name)
    except ImportError:
        return None
    return found if getattr(found, "INTERFACE", None) == interface else None


#: What each extension does, and where it is found if it fits: named, for one of them is of a layer above.
EXTENSIONS = {
    "app.domain._kernel": ("rankings", "app.domain.kernel", "KERNEL"),
    "app.domain._fold": ("profiles", "app.domain.held_profile", "COMPILED"),
    "app.domain._share": ("shares", "app.domain.compiled", "SHARE_EXTENSION"),
    "app.domain._visits": ("visits", "app.domain.visit_records", "COMPILED"),
    "app.domain._items": ("items", "app.domain.item_work", "COMPILED"),
    "app.domain._neighbours": ("neighbours", "app.domain.neighbour_work", "COMPILED"),
    "app.domain._ranked": ("ranked lists", "app.domain.recommendations", "COMPILED"),
    "app.destinations._list_json": ("webhooks' lists", "app.destinations.list_json", "COMPILED"),
}


def extensions_info() -> str:
    """In one line, what is compiled and what is not."""
    done: dict[bool, list[str]] = {True: [], False: []}
    for what, module, name in EXTENSIONS.values():
        done[getattr(import_module(module), name) is not None].append(what)
    return said_of(done[True], done[False])


def said_of(there: Sequence[str], missing: Sequence[str]) -> str:
    """The line, of what is there and what is missing."""
    parts = [f"compiled: {', '.join(there)}"] * bool(there)
    if missing:
        parts.append(f"in Python: {', '.join(missing)} (install again with a C compiler and Python's headers to have them compiled)")
    return "; ".join(parts)


#: What an interaction adds to a share (_share.c, INTERFACE): reminders.py and trending.py. None: there is none that fits.
SHARE_EXTENSION = compiled("app.domain._share", 1)
