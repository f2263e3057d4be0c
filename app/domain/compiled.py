"""Extensions that are used where they could be built when Tidings was installed; whoever uses one can do without."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def compiled(name: str, interface: int) -> ModuleType | None:
    """The extension of this name. None: there is none, or it was built from other sources and has another interface."""
    try:
        found = import_module(name)
    except ImportError:
        return None
    return found if getattr(found, "INTERFACE", None) == interface else None


#: What an interaction adds to a share (_share.c, INTERFACE): reminders.py and trending.py. None: there is none that fits.
SHARE_EXTENSION = compiled("app.domain._share", 1)
