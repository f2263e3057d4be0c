"""The compiled kernel, where the extension could be built when Tidings was installed; whoever uses it can do without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from app.domain.compiled import compiled, extensions_info
from app.domain.ranking_loops import LinksOf
from app.domain.recommendations import Reason, Recommendation

#: Of app/domain/_kernel.c. An extension that was built from other sources has another number, and is not used.
INTERFACE = 1


class Kernel(Protocol):
    """What app/domain/_kernel.c offers."""

    INTERFACE: int

    def rank(
        self,
        session: list[str],
        earlier: list[str],
        context: tuple[str, ...],
        worth: tuple[float, ...],
        links_of: LinksOf,
        damping: Mapping[str, float] | None,
        seen_now: dict[str, float],
        seen_before: dict[str, float],
        trends: dict[str, float],
        linked_part: float,
        length: int,
        templates: tuple[Recommendation, Reason, Reason, Reason, Reason],
        /,
    ) -> list[Recommendation] | None:
        """What ``rank_links`` (app/domain/ranking_loops.py) answers; None: something is unusual, ask that.

        The templates are what the answer is made like: a recommendation, and the reasons that others viewed it, too, that it was seen now,
        that it was seen before, and that it trends.
        """


def load(name: str = "app.domain._kernel") -> Kernel | None:
    """The kernel of this name, if there is one and it fits."""
    return cast(Kernel | None, compiled(name, INTERFACE))


#: None: there is none that fits.
KERNEL = load()


def kernel_info() -> str:
    """In a few words, what is in use."""
    return "compiled" if KERNEL is not None else "in Python (install again with a C compiler and Python's headers for the compiled one)"


if __name__ == "__main__":
    print(extensions_info())
