"""The `tidings` command as a person meets it: help, mistakes and exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from app.cli import COMMANDS, CommandGroup, cli


def tidings(*arguments: str, env: Mapping[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="tidings", env={"TIDINGS_SETTINGS": None, **(env or {})})


def test_help_names_every_command_and_where_to_begin() -> None:
    result = tidings("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.output
    assert "tidings demo" in result.output


def test_help_imports_no_command() -> None:
    heavy = "{'aiokafka', 'pydantic', 'faust', 'rich'}"
    code = f"import sys; from app.cli import cli; cli(['--help'], standalone_mode=False); print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_python_m_app_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "app", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tidings ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_exists_and_shows_an_example_in_its_help(name: str) -> None:
    result = tidings(name, "--help")
    assert result.exit_code == 0, result.output
    assert f"tidings {name}" in result.output.split("Examples:")[-1]


def test_an_unknown_command_is_wrong_usage() -> None:
    result = tidings("brew")
    assert result.exit_code == 2
    assert "brew" in result.output


def test_all_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "tidings.toml"
    target = '[[targets]]\nname = "Crm!"\nurl = "ftp://x"\nsecret = "s3cret-in-plain"\n'
    file.write_text('[kafka]\npartitions = 0\nbroker = "x"\n[http]\nport = 99999\n' + target)
    result = tidings("topics", "check", "--settings", str(file))
    assert result.exit_code == 2
    for setting in ("kafka.partitions", "kafka.broker", "http.port", "targets.0.name", "targets.0.url", "targets.0.secrets.0"):
        assert setting in result.output
    assert "s3cret-in-plain" not in result.output
    assert "Traceback" not in result.output


def test_a_settings_file_that_is_not_there_is_named() -> None:
    result = tidings("worker", "--settings", "/nowhere/tidings.toml")
    assert result.exit_code == 2
    assert "/nowhere/tidings.toml" in result.output


def test_a_bug_is_not_dressed_up_as_a_message() -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    group = CommandGroup(commands={"broken": broken}, params=cli.params)
    assert isinstance(CliRunner().invoke(group, ["broken"]).exception, ZeroDivisionError)
