"""What commands say when nothing answers at the broker's address."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.errors import TidingsError


def tidings(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="tidings", env={"TIDINGS_SETTINGS": None})


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "create"],
        ["topics", "check"],
        ["dead-letters", "list"],
        ["dead-letters", "show", "tidings.events.v1/0/1"],
        ["dead-letters", "replay", "--all", "--yes"],
        ["catalog", "show", "shoes"],
        ["send", "--user", "ada", "--event", "product_viewed", "--product", "shoes"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_broker_that_is_not_there_is_told_in_one_message_within_ten_seconds(arguments: list[str], free_port: int) -> None:
    began = time.monotonic()
    result = tidings(*arguments, "--broker", f"127.0.0.1:{free_port}")
    assert time.monotonic() - began < 10
    assert result.exit_code == 1
    assert f"127.0.0.1:{free_port}" in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_debug_lets_the_error_through_for_its_traceback(free_port: int) -> None:
    result = tidings("--debug", "topics", "check", "--broker", f"127.0.0.1:{free_port}")
    assert isinstance(result.exception, TidingsError)
