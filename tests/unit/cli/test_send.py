"""`tidings send` refuses what is no event before it looks for a broker."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from app.cli import cli


def send(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["send", *arguments, "--broker", "unreachable.invalid:1"], env={"TIDINGS_SETTINGS": None}, input=stdin)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"user_id":"ada"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "a list"),
        ('{"user_id":"ada"}', "event is required"),
        ('{"user_id":"ada","event":"product_viewd","product_id":"x"}', "did you mean product_viewed"),
        ('{"user_id":"ada","event":"product_viewed","product_id":"x","timestamp":"yesterday"}', "timestamp"),
        ('{"user_id":"ada","event":"product_viewed","product_id":"x","timestamp":"1066-10-14T09:00:00Z"}', "timestamp"),
        ('{"user_id":"ada","event":"product_viewed","product":"x"}', "product"),
    ],
    ids=["cut short", "too deep", "a list", "no event", "a typing error", "no time", "an absurd time", "an unknown field"],
)
def test_what_is_wrong_with_an_event_is_named(text: str, told: str) -> None:
    for result in (send(text), send("-", stdin=text)):
        assert result.exit_code == 1
        assert told in result.output
        assert "Traceback" not in result.output


def test_a_megabyte_of_noise_is_refused_whole() -> None:
    result = send("-", stdin="x" * 2_000_000)
    assert result.exit_code == 1
    assert "tidings replay" in result.output


@pytest.mark.parametrize("arguments", [[], ["{}", "--user", "ada"], ["--user", "ada", "--field", "price"], ["--quantity", "many"]])
def test_options_that_do_not_say_one_event_are_wrong_usage(arguments: list[str]) -> None:
    assert send(*arguments).exit_code == 2
