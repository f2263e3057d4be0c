"""``tidings evaluate``: one JSON document or a table, and a message for a log that cannot be read."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.cli.evaluation_charts import require_charts
from app.errors import CommandError


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
    assert document["strategies"].keys() == {"for_you"}
    assert document["strategies"]["for_you"] == {name: document[name] for name in document["strategies"]["for_you"]}


def test_limit_takes_the_first_rows(log):
    assert json.loads(CliRunner().invoke(cli, ["evaluate", log, "--json", "--limit", "60"]).stdout)["rows"] == 60


def test_the_table_names_each_measure_and_a_dash_stands_for_what_was_not_asked(log):
    lines = CliRunner().invoke(cli, ["evaluate", log]).stdout.splitlines()
    assert "next product among the 20 (HR@20)\t1.000" in lines
    assert "first product of a known person's session among the 20\t-" in lines


def test_strategies_stand_beside_for_you_with_the_same_measures(log):
    command = ["evaluate", log, "--strategy", "trending", "--strategy", "recently_viewed", "--strategy", "trending"]
    document = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert list(document["strategies"]) == ["for_you", "trending", "recently_viewed"]
    assert len({tuple(measures) for measures in document["strategies"].values()}) == 1
    lines = CliRunner().invoke(cli, command).stdout.splitlines()
    assert lines[0] == "strategy\tfor_you\ttrending\trecently_viewed"
    assert {len(line.split("\t")) for line in lines} == {4}


def test_a_strategy_that_does_not_exist_is_refused_with_those_that_do(log):
    result = CliRunner().invoke(cli, ["evaluate", log, "--strategy", "guess"])
    assert result.exit_code == 2
    assert "trending" in result.stderr


def test_sharded_is_said_in_the_document(log):
    document = json.loads(CliRunner().invoke(cli, ["evaluate", log, "--json", "--sharded", "--partitions", "3"]).stdout)
    assert (document["sharded"], document["hr_at_20"]) == (True, 1.0)
    assert document["held_bytes"] > 0


def test_a_frozen_split_learns_from_the_first_part_or_from_the_first_file(log, tmp_path):
    frozen = json.loads(CliRunner().invoke(cli, ["evaluate", log, "--json", "--frozen-from", "0.8"]).stdout)
    assert (frozen["rows"], frozen["queries"], frozen["hr_at_20"]) == (150, 20, 1.0)
    other = tmp_path / "later.csv"
    other.write_text("ts,user,session,item\n" + "".join(f"{1_700_000_000 + n},v,t,{'abz'[n]}\n" for n in range(3)))
    tested = json.loads(CliRunner().invoke(cli, ["evaluate", log, "--json", "--test", str(other)]).stdout)
    assert (tested["rows"], tested["queries"], tested["hr_at_20"], tested["items"]) == (153, 2, 0.5, 3)


def test_learning_cannot_end_in_two_places(log):
    assert CliRunner().invoke(cli, ["evaluate", log, "--test", log, "--frozen-from", "0.5"]).exit_code == 2


def test_plot_writes_a_picture_of_each_kind(log, tmp_path):
    pytest.importorskip("matplotlib", reason="charts need matplotlib")
    result = CliRunner().invoke(cli, ["evaluate", log, "--strategy", "trending", "--plot", str(tmp_path / "charts")])
    assert result.exit_code == 0, result.stderr
    charts = {path.name: path.read_bytes() for path in (tmp_path / "charts").iterdir()}
    assert charts.keys() == {"quality.png", "over_time.png", "reach.png", "cost.png"}
    assert all(value.startswith(b"\x89PNG") and len(value) > 5_000 for value in charts.values())


def test_charts_that_cannot_be_written_are_told_in_one_message(log, tmp_path):
    pytest.importorskip("matplotlib", reason="charts need matplotlib")
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli, ["evaluate", log, "--plot", str(tmp_path / "file" / "charts")])
    assert result.exit_code == 1
    assert "charts cannot be written" in result.stderr


def test_without_matplotlib_charts_are_refused_with_what_to_install():
    with pytest.raises(CommandError, match=r"pip install 'tidings\[plot\]'"):
        require_charts(find=lambda package: None)


def test_a_log_that_cannot_be_read_is_told_in_one_message(tmp_path):
    (tmp_path / "log.csv").write_text("when,who\n1,2\n")
    result = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "log.csv")])
    assert result.exit_code == 1
    assert "lacks the column 'ts'" in result.stderr
    assert "Traceback" not in result.stderr
