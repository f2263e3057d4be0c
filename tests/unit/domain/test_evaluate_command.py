"""``tidings evaluate``: one JSON document or a table, and a message for a log that cannot be read."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from app.cli import cli


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("ts,user,session,item\n" + "".join(f"{1_600_000_000 + n},u{n // 3},s{n // 3},{'abc'[n % 3]}\n" for n in range(150)))
    return str(path)


def test_json_is_one_document_with_every_measure(log):
    result = CliRunner().invoke(cli, ["evaluate", log, "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert (document["rows"], document["hr_at_20"], document["novel_hr_at_20"]) == (150, 1.0, 1.0)
    assert {
        "mrr_at_20",
        "session_start_hr_at_20",
        "coverage_at_20",
        "popularity_at_20",
        "query_p95_ms",
        "update_us",
        "state_bytes",
        "queries",
        "items",
        "users",
    } <= document.keys()


def test_limit_takes_the_first_rows(log):
    assert json.loads(CliRunner().invoke(cli, ["evaluate", log, "--json", "--limit", "60"]).stdout)["rows"] == 60


def test_the_table_names_each_measure_and_a_dash_stands_for_what_was_not_asked(log):
    lines = CliRunner().invoke(cli, ["evaluate", log]).stdout.splitlines()
    assert "next product among the 20 (HR@20)\t1.000" in lines
    assert "first product of a known person's session among the 20\t-" in lines


def test_a_log_that_cannot_be_read_is_told_in_one_message(tmp_path):
    (tmp_path / "log.csv").write_text("when,who\n1,2\n")
    result = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "log.csv")])
    assert result.exit_code == 1
    assert "lacks the column 'ts'" in result.stderr
    assert "Traceback" not in result.stderr
