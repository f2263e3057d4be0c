"""The check of the schemas rejects a change that breaks the wire, and lets an addition pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUF = ROOT / "build" / "buf" / "node_modules" / ".bin" / "buf"
EVENT = "proto/tidings/events/v1/event.proto"

pytestmark = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed: make proto-check installs it")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with the schemas and their baseline, as after a release."""
    ignored = shutil.ignore_patterns("*.py", "*.pyi", "__pycache__", "baseline.binpb")
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=ignored)
    shutil.copy(ROOT / "proto" / "check_wire.py", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, str(BUF), "build", "-o", "proto/baseline.binpb")
    commit(tmp_path)
    return tmp_path


def run(directory: Path, *command: str) -> None:
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


def commit(directory: Path) -> None:
    run(directory, "git", "add", ".")
    run(directory, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "a release")


def edit(directory: Path, old: str, new: str) -> None:
    text = (directory / EVENT).read_text()
    assert old in text
    (directory / EVENT).write_text(text.replace(old, new, 1))


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "proto/check_wire.py"]
    return subprocess.run(command, cwd=directory, env={**os.environ, "BUF": str(BUF)}, capture_output=True, text=True, check=False)


def test_an_added_field_passes(checkout: Path) -> None:
    edit(checkout, "string session_id = 6;", "string session_id = 6;\n  string device = 8;")
    done = check(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unbroken" in done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [("int64 occurred_at_ms = 4;", "string occurred_at_ms = 4;"), ("int64 occurred_at_ms = 4;", ""), ("user_id = 2;", "user_id = 9;")],
    ids=["another type", "a field removed", "another number"],
)
def test_a_change_that_breaks_the_wire_is_refused(checkout: Path, old: str, new: str) -> None:
    edit(checkout, old, new)
    done = check(checkout)
    assert done.returncode == 1
    assert "event.proto" in done.stdout


def test_overwriting_the_baseline_does_not_hide_a_break(checkout: Path) -> None:
    edit(checkout, "int64 occurred_at_ms = 4;", "string occurred_at_ms = 4;")
    run(checkout, str(BUF), "build", "-o", "proto/baseline.binpb")
    commit(checkout)
    assert check(checkout).returncode == 1


def test_without_a_baseline_it_passes_and_says_so(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    (checkout / "proto" / "baseline.binpb").unlink()
    done = check(checkout)
    assert done.returncode == 0
    assert "no baseline" in done.stdout
