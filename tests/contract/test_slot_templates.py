"""The template snippets of platforms with a field for each value: each field that they show is written, and they have a fallback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.destinations import HasFields
from app.destinations.encoding import Item
from tests.contract.destinations import EXAMPLES

_PAGES = Path(__file__).parents[2] / "docs" / "destinations"
_BLOCK = re.compile(r"```(?:html|handlebars)\n(.*?)```", re.S)
#: How each language names a field of the person, and what stands before that which is shown without a list.
_LANGUAGES = {
    "sendgrid": (re.compile(r"\{\{(?:#if )?(?!else)([a-z_0-9]+)\}\}"), "{{else}}"),
    "mailchimp": (re.compile(r"\*\|(?:IF:)?([A-Z_0-9]+)\|\*"), "*|ELSE:|*"),
    "hubspot": (re.compile(r"\bcontact\.([a-z_0-9]+)"), "{% else %}"),
}


@pytest.mark.parametrize("kind", _LANGUAGES)
def test_a_snippet_shows_what_is_written_and_has_a_fallback(kind: str) -> None:
    destination, (field, otherwise) = EXAMPLES[kind], _LANGUAGES[kind]
    assert isinstance(destination, HasFields)
    snippets = _BLOCK.findall((_PAGES / f"{kind}.md").read_text())
    assert snippets
    for snippet in snippets:
        assert set(field.findall(snippet))
        assert set(field.findall(snippet)) <= {one.name for one in destination.fields()}
        assert set(re.findall(r"\br\.([a-z_]+)", snippet)) <= set(Item._fields)
        assert snippet.count(otherwise) == 1
        assert "bestsellers" in snippet.split(otherwise)[1]


@pytest.mark.parametrize("kind", _LANGUAGES)
def test_the_page_names_the_first_fields_and_the_last(kind: str) -> None:
    destination, page = EXAMPLES[kind], (_PAGES / f"{kind}.md").read_text()
    assert isinstance(destination, HasFields)
    fields = [one.name for one in destination.fields() if one.name != "tidings"]
    for name in (*fields[:5], fields[-1]):
        assert f"`{name}`" in page, name


def test_the_list_of_destinations_links_to_the_page_of_each() -> None:
    readme = (_PAGES / "README.md").read_text()
    for kind in EXAMPLES:
        assert f"`{kind}`" in readme
        assert kind == "webhook" or (f"[`{kind}`]({kind}.md)" in readme and (_PAGES / f"{kind}.md").exists())


def test_the_files_that_the_list_of_destinations_links_to_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (_PAGES / "README.md").read_text()):
        assert (_PAGES / link).exists(), link
