"""The template snippets of docs/destinations: every field that they show is one that is written, and they have a fallback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

_ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```(?:html|liquid|handlebars)\n(.*?)```", re.S)
#: How each language names a field of one product, or of the person.
_ITEM_FIELD = re.compile(r"\b(?:r|this)\.([a-z_]+)")
_PERSON_FIELD = re.compile(
    r"\bcustomer\.([a-z_0-9]+)|person\|lookup:'([a-z_]+)'|custom_attribute\.\$\{([a-z_]+)\}|\{\{#(?:if|each) ([a-z_]+)\}\}"
)


def _written(value: Any) -> dict[str, Any]:
    """All that the golden request writes, by name, wherever in it."""
    match value:
        case dict():
            return value | {name: one for inner in value.values() for name, one in _written(inner).items()}
        case list():
            return {name: one for inner in value for name, one in _written(inner).items()}
        case _:
            return {}


def _snippets(kind: str) -> list[str]:
    return _BLOCK.findall((_ROOT / "docs" / "destinations" / f"{kind}.md").read_text())


@pytest.mark.parametrize("kind", ["klaviyo", "braze", "customerio", "iterable"])
def test_a_snippet_shows_what_is_written_and_has_a_fallback(kind: str) -> None:
    written = _written(orjson.loads((_ROOT / "tests" / "contract" / "golden" / f"{kind}.json").read_bytes())["body"])
    snippets = _snippets(kind)
    assert snippets
    for snippet in snippets:
        of_items = set(_ITEM_FIELD.findall(snippet))
        of_people = {name for names in _PERSON_FIELD.findall(snippet) for name in names if name}
        assert of_people, "it is about the person's list"
        assert of_items | of_people <= written.keys()
        assert "bestsellers" in re.split(r"\{%-? else %\}|\{\{else\}\}", snippet)[-1], "what is shown without a list comes last"


@pytest.mark.parametrize("kind", ["klaviyo", "braze", "customerio", "iterable"])
def test_the_page_names_each_attribute_that_is_written(kind: str) -> None:
    page = (_ROOT / "docs" / "destinations" / f"{kind}.md").read_text()
    written = _written(orjson.loads((_ROOT / "tests" / "contract" / "golden" / f"{kind}.json").read_bytes())["body"])
    for name in ("recs", "recs_version", "recs_at"):
        assert name in written
        assert f"`{name}`" in page
