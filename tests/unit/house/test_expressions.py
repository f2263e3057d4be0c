"""Conditions on products: what they mean, and what is refused before it can do harm."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingsError
from app.expressions import MAX_EXPRESSION_CHARS, NAMES, WrongExpressionError, compile_expression
from app.settings import load_settings

PRODUCT: dict[str, Any] = {
    "product_id": "p1", "title": "Trail shoe", "brand": "Acme", "price": 1999, "list_price": None, "currency": "EUR",
    "categories": ("Shoes", "Sale"),
}  # fmt: skip
ATTRIBUTES = {"colour": ("red", "blue"), "age-group": ("adult",)}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('brand == "Acme"', True),
        ('brand in ["Acme", "Bolt"] and price < 1999', False),
        ('"Sale" in categories', True),
        ('"red" in attributes.colour', True),
        ('"green" in attributes.colour', False),
        ('"adult" in attributes.age_group', True),
        ('"18+" in attributes.rating', False),
        ('"18+" not in attributes.rating', True),
        ("attributes.colour.length > 1", True),
        ('title =~ "Trail.*"', True),
        ("list_price == null", True),
        ("list_price > 1", None),
        ("price / (price - 1999) > 1", None),
        ('categories[9] == "Sale"', None),
    ],
)
def test_a_condition_holds_or_not_or_fails(text: str, holds: bool | None) -> None:
    assert compile_expression(text).holds(PRODUCT, ATTRIBUTES) is holds


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_used(name: str) -> None:
    assert compile_expression(f"{name} != null").holds(PRODUCT, {}) is (name != "list_price")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("brand ==", "not understood at character 9"),
        ('brand = "Acme"', "not understood at character 7"),
        ("", "not understood at character 1"),
        ('brnd == "Acme"', "unknown name 'brnd' at character 1; there are product_id, title, brand"),
        ('price > 1 and brnd == "Acme"', "unknown name 'brnd' at character 15"),
        ('price > "10"', "data type mismatch"),
        ('attributes.colour == "red"', 'a list is compared with a text: write "text" in list'),
        ('not (price > 1 and categories != "Sale")', "a list is compared with a text"),
        ('brand =~ "(a"', "invalid regular expression at character 11"),
        ("price", "it must be a condition"),
        ("price > 1 and $now > 2", "there are no $ functions: $now at character 15"),
        ("true and " * 200 + "true", f"more than {MAX_EXPRESSION_CHARS} characters"),
    ],
)
def test_a_wrong_condition_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(WrongExpressionError) as refused:
        compile_expression(text)
    assert complaint in str(refused.value)


def test_deep_nesting_is_read_or_refused_and_breaks_nothing() -> None:
    depth = (MAX_EXPRESSION_CHARS - 4) // 2
    with suppress(WrongExpressionError):
        assert compile_expression("(" * depth + "true" + ")" * depth).holds(PRODUCT, {}) is True


def test_wrong_conditions_in_the_settings_are_told_all_at_once_each_with_its_rule_or_slot(tmp_path: Path) -> None:
    file = tmp_path / "tidings.toml"
    file.write_text(
        "[rules]\n"
        "exclude_when = { cheap = 'price <', fine = 'price < 5' }\n"
        "[[slots]]\n"
        'name = "home"\n'
        "filters = { when = 'colour == 1' }\n"
        "boosts = [{ when = 'price', factor = 2.0 }]\n"
    )
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    assert len(refused.value.problems) == 3
    cheap, home, boost = refused.value.problems
    assert cheap == "rules.exclude_when.cheap: not understood at character 8: price <"
    assert home.startswith("slots.home.filters.when: unknown name 'colour' at character 1;")
    assert boost.startswith("slots.home.boosts.0.when: it must be a condition")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('[rules]\nregion_user_attribute = "country"', "must both be set"),
        ("[rules]\nexclude_when = { 'A name' = 'true' }", "the name 'A name' must be of"),
        ('[[slots]]\nname = "a"\n[[slots]]\nname = "a"', "two slots are named 'a'"),
        ('[[slots]]\nname = "a"\nmix = [{ strategy = "for_you" }, { strategy = "for_you" }]', "for_you is in the mix twice"),
        ('[[slots]]\nname = "a"\nmix = [{ strategy = "magic" }]', "slots.a.mix.0.strategy"),
        ('[[slots]]\nname = "a"\nmix = []', "slots.a.mix"),
        ('[[slots]]\nname = "a"\nfilters = { price_from = 9, price_to = 8 }', "price_to must not be below price_from"),
        ('[[slots]]\nname = "a"\nlength = 51', "slots.a.length"),
        ('[[slots]]\nname = "a"\nboosts = [{ when = "true", factor = 0 }]', "slots.a.boosts.0.factor"),
    ],
)
def test_rules_and_slots_that_make_no_sense_are_refused(tmp_path: Path, settings: str, complaint: str) -> None:
    file = tmp_path / "tidings.toml"
    file.write_text(settings)
    with pytest.raises(SettingsError, match="problem") as refused:
        load_settings(file)
    assert complaint in str(refused.value)


def test_a_list_of_a_rule_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_RULES__EXCLUDE_CATEGORIES", "Shoes > Running, Bags")
    monkeypatch.setenv("TIDINGS_RULES__PRICE_FLOOR", "500")
    rules = load_settings().rules
    assert rules.exclude_categories == ["Shoes > Running", "Bags"]
    assert rules.price_floor == 500


def test_settings_without_a_condition_do_not_load_the_language() -> None:
    program = "import sys; from app.settings import load_settings; load_settings(); sys.exit('rule_engine' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
