"""What commands say when nothing answers at the broker's address."""

from __future__ import annotations

import time
from pathlib import Path

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
        ["deliveries", "list"],
        ["deliveries", "show", "ada"],
        ["deliveries", "retry", "--all", "--yes"],
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["resync", "--user", "ada"],
        ["resync", "--all", "--yes"],
        ["resync", "--segment", "cart_size > 0", "--yes"],
        ["destinations", "list"],
        ["destinations", "pause", "crm", "--reason", "x"],
        ["destinations", "test", "crm", "--user", "ada"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_a_command_about_destinations_says_so_too(arguments: list[str], free_port: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_" + "QUJD" * 10)
    file = tmp_path / "tidings.toml"
    file.write_text(f'[[targets]]\nname = "crm"\nurl = "https://crm.example"\nsecret = "file:{tmp_path / "secret"}"\n')
    result = tidings(*arguments, "--broker", f"127.0.0.1:{free_port}", "--settings", str(file))
    assert result.exit_code == 1
    assert f"127.0.0.1:{free_port}" in result.output
    assert isinstance(result.exception, SystemExit)


def test_debug_lets_the_error_through_for_its_traceback(free_port: int) -> None:
    result = tidings("--debug", "topics", "check", "--broker", f"127.0.0.1:{free_port}")
    assert isinstance(result.exception, TidingsError)
