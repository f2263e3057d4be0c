"""The settings that the demo writes are settings that a worker reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from app.cli.demo_platform import call_of, platform_target
from app.cli.demo_worker import SECRET_VARIABLE, TOKEN_VARIABLE, Plan, Watch, inbox_target, kafka_settings, settings_toml
from app.destinations import HasFields, destination_of
from app.errors import CommandError
from app.settings import load_settings
from app.web.demo.platforms import PLATFORMS


def test_the_settings_file_reads_back_and_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(kafka="", port=None, worker_port=1234)
    kafka = kafka_settings(plan, "127.0.0.1:9")
    text = settings_toml(plan, kafka, tmp_path / 'a "quoted" \\ directory', inbox_target("http://127.0.0.1:8090/inbox"))
    assert plan.token not in text + repr(plan)
    assert plan.secret not in text + repr(plan)
    (tmp_path / "tidings.toml").write_text(text)
    monkeypatch.setenv(TOKEN_VARIABLE, plan.token)
    monkeypatch.setenv(SECRET_VARIABLE, plan.secret)
    settings = load_settings(tmp_path / "tidings.toml")
    assert settings.kafka == kafka
    assert settings.worker.data_dir == tmp_path / 'a "quoted" \\ directory'
    assert settings.tokens[0].token.get_secret_value() == plan.token
    assert settings.targets[0].secrets[0].get_secret_value() == plan.secret


@pytest.mark.parametrize("kind", PLATFORMS)
def test_the_section_of_a_platform_reads_back_and_its_fields_are_there(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(kafka="", port=None, platform=kind, worker_port=1234)
    platform = PLATFORMS[kind](key=plan.secret)
    section = platform_target(platform, "http://127.0.0.1:8091", SECRET_VARIABLE)
    text = settings_toml(plan, kafka_settings(plan, "127.0.0.1:9"), tmp_path, section)
    assert plan.secret not in text
    (tmp_path / "tidings.toml").write_text(text)
    monkeypatch.setenv(TOKEN_VARIABLE, plan.token)
    monkeypatch.setenv(SECRET_VARIABLE, plan.secret)
    destination = destination_of(load_settings(tmp_path / "tidings.toml").targets[0])
    if isinstance(destination, HasFields):
        for field in destination.fields():
            assert platform.answer(call_of(destination.create_field(field))).status in (400, 409), "it is there already"


def test_only_the_embedded_broker_is_used_without_a_fence() -> None:
    assert kafka_settings(Plan(kafka="", port=None), "127.0.0.1:9").allow_unfenced
    assert not kafka_settings(Plan(kafka="127.0.0.1:9092", port=None), "127.0.0.1:9092").allow_unfenced


def test_two_runs_share_no_name_and_no_secret() -> None:
    one, other = Plan("", None), Plan("", None)
    assert not {one.run_id, one.token, one.secret} & {other.run_id, other.token, other.secret}


class EndedWorker:
    """Stands for a process that is gone."""

    returncode = 3


async def test_a_worker_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("x\n" * 100_000 + "the broker said no\n")
    watch = Watch(EndedWorker(), log, None)  # type: ignore[arg-type]  # the one attribute that is read
    with pytest.raises(CommandError, match=r"exit code 3.\n.*\n(.*\n)+.*the broker said no"):
        await watch.while_waiting_for(asyncio.sleep(60), 60, "get ready")


class RunningWorker:
    """Stands for a process that goes on."""

    returncode = None


async def test_a_worker_that_never_gets_there_is_told_after_the_time_given(tmp_path: Path) -> None:
    (tmp_path / "worker.log").touch()
    watch = Watch(RunningWorker(), tmp_path / "worker.log", None)  # type: ignore[arg-type]  # the one attribute that is read
    with pytest.raises(CommandError, match=r"did not get ready within 0 s\. It said nothing"):
        await watch.while_waiting_for(asyncio.sleep(60), 0.01, "get ready")


async def test_a_worker_that_dies_while_it_is_asked_is_told_as_dead(tmp_path: Path) -> None:
    (tmp_path / "worker.log").touch()
    watch = Watch(EndedWorker(), tmp_path / "worker.log", None)  # type: ignore[arg-type]  # the one attribute that is read

    async def ask() -> None:
        raise aiohttp.ClientConnectionError("refused")

    with pytest.raises(CommandError, match="ended by itself with exit code 3"):
        await watch.while_waiting_for(ask(), 60, "get ready")
