"""What stands in deploy/, the README and the Makefile agrees with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from app.cli import COMMANDS
from app.destinations import KINDS
from app.domain.strategies import STRATEGIES
from app.metrics import REGISTRY
from app.settings import Settings, SlotSettings, StrategyName, TargetSettings, TokenSettings, load_settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SETTINGS_FILE = (DEPLOY / "tidings.toml").read_text()
WORKERS = {name: service for name, service in COMPOSE["services"].items() if name.startswith("worker")}


def sections() -> dict[str, type[BaseModel]]:
    """Section name to its model; for a list of tables the model of one."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in Settings.model_fields.items():
        annotation: Any = field.annotation
        if name != "targets":
            found[name] = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    return found


def kinds_of_targets() -> dict[str, type[BaseModel]]:
    """Kind of destination to the model of its settings."""
    return {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(TargetSettings)}


def variables_of_settings() -> set[str]:
    return {f"TIDINGS_{section.upper()}__{key.upper()}" for section, model in sections().items() for key in model.model_fields}


# ---------------------------------------------------------------------- settings


def test_the_settings_file_shows_every_setting_with_its_default() -> None:
    # `#key = value` is a setting shown, `# words` is a comment.
    shown = tomllib.loads(re.sub(r"(?m)^#(?=[a-z\[])", "", SETTINGS_FILE))
    for section, model in sections().items():
        if section in ("tokens", "slots"):
            assert set(shown[section][0]) == set(model.model_fields), section
        else:
            defaults = {key: str(value) if isinstance(value, Path) else value for key, value in model().model_dump().items()}
            # A secret without a default is shown as what it must be.
            secret = {key for key, value in defaults.items() if value is None and shown[section][key].startswith("env:")}
            assert {**shown[section], **dict.fromkeys(secret)} == defaults, section
    assert shown["slots"] == [SlotSettings(name="for_you").model_dump()]


def test_the_settings_file_shows_a_target_of_every_kind_with_all_its_defaults() -> None:
    shown = {target["kind"]: target for target in tomllib.loads(re.sub(r"(?m)^#(?=[a-z\[])", "", SETTINGS_FILE))["targets"]}
    assert shown.keys() == kinds_of_targets().keys() >= KINDS.keys()
    for kind, model in kinds_of_targets().items():
        # What has no default is shown where it must be given.
        named = {key for key, field in model.model_fields.items() if field.is_required() or field.default is not None}
        assert named <= set(shown[kind]), kind
        assert set(shown[kind]) <= set(model.model_fields), kind
        for key, field in model.model_fields.items():
            if not field.is_required() and field.default is not None and key not in ("field_ids", "kind"):
                assert shown[kind][key] == field.default, (kind, key)


def test_the_settings_file_names_every_strategy() -> None:
    assert set(get_args(StrategyName)) == set(STRATEGIES)
    described = SETTINGS_FILE.partition("take turns by their weights:")[2].partition(".")[0].replace("#", " ")
    assert {name.strip() for name in described.split(",")} == set(STRATEGIES)


def test_the_settings_file_loads_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_SHOP_TOKEN", "0123456789abcdef")
    settings = load_settings(DEPLOY / "tidings.toml")
    assert [token.name for token in settings.tokens] == ["shop"]
    assert set(TokenSettings.model_fields) == {"name", "token", "scopes"}


# ---------------------------------------------------------------------- deploy


def test_compose_and_image_name_settings_that_exist() -> None:
    named = set(re.findall(r"TIDINGS_[A-Z]+__[A-Z_]+", (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "Dockerfile").read_text()))
    assert named
    assert named <= variables_of_settings()


def test_the_settings_of_compose_are_valid_and_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, worker in WORKERS.items():
        for variable, value in worker["environment"].items():
            monkeypatch.setenv(variable, "0123456789abcdef" if value.startswith("${") else value)
        settings = load_settings(DEPLOY / "tidings.toml")
        assert settings.http.advertised_url == f"http://{name}:{settings.http.port}"
        assert settings.kafka.partitions >= 4 * len(WORKERS)
        assert settings.worker.standby_replicas < len(WORKERS)


def test_each_worker_of_compose_has_a_volume_of_its_own() -> None:
    volumes = [volume.split(":")[0] for worker in WORKERS.values() for volume in worker["volumes"] if volume.endswith(":/data")]
    assert len(set(volumes)) == len(WORKERS) == 3
    assert set(volumes) <= set(COMPOSE["volumes"])


def test_prometheus_reads_every_worker_of_compose() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scrape for static in job["static_configs"] for target in static["targets"]}
    assert targets == {f"{name}:{Settings().http.port}" for name in WORKERS}


def test_a_metric_named_in_deploy_exists() -> None:
    exist = {sample for family in REGISTRY.collect() for sample in names_of(family.name, family.type)}
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            named = set(re.findall(r"\btidings_[a-z0-9_]+_(?:seconds|bytes|total|records|users|count|sum|bucket)\b", file.read_text()))
            assert named <= exist, file


def names_of(family: str, kind: str) -> list[str]:
    match kind:
        case "counter":
            return [f"{family}_total"]
        case "histogram":
            return [family, f"{family}_bucket", f"{family}_sum", f"{family}_count"]
        case _:
            return [family]


def test_compose_tests_and_image_run_the_same_kafka() -> None:
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)</version>", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert version
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_the_image_copies_what_the_build_context_holds() -> None:
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text()))
    assert {name for names in copied for name in names.split()} == context


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: on Debian, apt-get install prometheus")
def test_promtool_accepts_the_prometheus_configuration() -> None:
    done = subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------- commands


def test_commands_named_in_documents_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = document.read_text()
        commands = re.findall(r"(?m)(?:^|`)\s*make ([a-z][a-z-]*)", text)
        assert set(commands) <= targets, document
        assert set(re.findall(r"(?m)(?:^|`)\s*tidings ([a-z][a-z-]*)", text)) <= set(COMMANDS), document
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme


def test_ci_runs_the_test_command_of_the_readme_and_can_be_executed() -> None:
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    for target in ("test", "lint", "proto-check", "test-rest"):
        assert re.search(rf"make --no-print-directory {target}\b", ci.read_text()), target


def test_make_help_names_every_command_a_person_may_call() -> None:
    printed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "run", "test", "lint", "proto", "proto-check", "kafka", "test-kafka", "test-long", "fuzz", "bench", "clean"):
        assert re.search(rf"make {target}\s", printed), target


def test_no_file_names_a_registry_host_or_a_path_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    # Spelt apart, so that this file is clean too.
    hosts = [r"pypi\." + "org", r"registry\.npm" + "js", r"repo1?\.maven", r"deb\.debian" + r"\.org"]
    forbidden = re.compile("|".join([*hosts, r"(?<![\w.])/" + "work/", "/tmp/" + "lab"]))
    for name in tracked:
        path = ROOT / name
        if path.suffix not in (".binpb", ".png", ".woff2") and path.is_file():
            assert not forbidden.search(path.read_text(errors="replace")), name
