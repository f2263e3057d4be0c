"""`tidings deliveries` lists what was given up as the outbox is now, says how a person stands, and has it tried again or dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.streams.topics import TopicNames
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import OutboxEntry

from .conftest import Installation
from .outbox_worlds import HOUR_MS, commands_now, dead, entry, fine, records_of, write_outbox, write_table


def a_shops_outbox() -> list[OutboxEntry]:
    return [
        entry("ann", dead("crm", "invalid_identity", 3 * HOUR_MS, last_error="no address\x1b[31m\tand red"), fine("hook")),
        entry("bob", dead("crm", "exhausted", HOUR_MS, last_error="503: busy"), dead("hook", "refused")),
        entry("cat", dead("crm", "suppressed", 2 * HOUR_MS, blocked=True), fine("hook")),
        entry("dan", dead("crm", "withheld"), dead("hook", "withheld")),
        entry("eve", fine("crm"), fine("hook")),
    ]


def listed(installation: Installation, *arguments: str) -> list[dict[str, Any]]:
    result = installation.tidings("deliveries", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def who(found: list[dict[str, Any]]) -> list[str]:
    return [f"{one['user_id']} {one['destination']}" for one in found]


def test_an_empty_outbox_lists_nothing_and_nothing_is_retried(installation: Installation) -> None:
    write_outbox(installation)
    assert listed(installation) == []
    result = installation.tidings("deliveries", "retry", "--all", "--yes")
    assert result.exit_code == 0, result.output
    assert "tidings deliveries list" in result.stderr
    assert commands_now(installation) == []


def test_without_the_changelog_the_answer_says_how_to_create_it(installation: Installation) -> None:
    for arguments in (["list"], ["show", "ann"], ["retry", "--all", "--yes"]):
        result = installation.tidings("deliveries", *arguments)
        assert result.exit_code == 1
        assert "tidings topics create" in result.output


def test_what_was_given_up_is_listed_the_youngest_last_and_only_as_the_last_record_of_a_person_says(installation: Installation) -> None:
    bob_since = entry("bob", fine("crm"), dead("hook", "refused"))
    write_outbox(installation, *a_shops_outbox(), bob_since, entry("fay", dead("crm", "refused")), entry("fay", fine("crm")))
    found = listed(installation)
    assert who(found) == ["ann crm", "cat crm", "bob hook"]
    assert found[0]["reason"] == "invalid_identity"
    assert found[0]["detail"] == "no address\x1b[31m\tand red"
    assert found[0]["since"].endswith("Z")


def test_filters_choose_by_destination_reason_user_and_time_and_withheld_only_if_asked_for(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    assert who(listed(installation, "--destination", "hook")) == ["bob hook"]
    assert who(listed(installation, "--reason", "exhausted", "--reason", "suppressed")) == ["cat crm", "bob crm"]
    assert who(listed(installation, "--user", "bob", "--user", "ann")) == ["ann crm", "bob crm", "bob hook"]
    assert who(listed(installation, "--user", "nobody")) == []
    assert who(listed(installation, "--since", "90m")) == ["bob crm", "bob hook"]
    assert who(listed(installation, "--until", "90m")) == ["ann crm", "cat crm"]
    assert who(listed(installation, "--since", "150m", "--until", "30m")) == ["cat crm", "bob crm"]
    assert who(listed(installation, "--reason", "withheld")) == ["dan crm", "dan hook"]
    assert who(listed(installation, "--limit", "2")) == ["bob crm", "bob hook"]


def test_counts_by_reason_and_destination(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    assert listed(installation, "--by", "destination") == [{"destination": "crm", "count": 3}, {"destination": "hook", "count": 1}]
    both = listed(installation, "--by", "destination", "--by", "reason", "--destination", "crm")
    assert [(one["destination"], one["reason"], one["count"]) for one in both] == [
        ("crm", "exhausted", 1), ("crm", "invalid_identity", 1), ("crm", "suppressed", 1),
    ]  # fmt: skip


def test_a_list_in_a_pipe_has_one_line_for_each_whatever_stands_in_it(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    result = installation.tidings("deliveries", "list")
    assert len(result.stdout.splitlines()) == 4
    assert all(len(line.split("\t")) == 6 for line in result.stdout.splitlines())
    assert "\x1b" not in result.stdout
    assert "4 given up, 1 exhausted, 1 invalid_identity, 1 refused, 1 suppressed" in result.stderr


def test_show_says_how_a_person_stands_at_each_destination(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    result = installation.tidings("deliveries", "show", "ann")
    assert result.exit_code == 0, result.output
    for words in ("version 4", "crm: dead", "invalid_identity", "version 2 at", "hook: confirmed", "no address\\x1b[31m\\tand red"):
        assert words in result.output, words
    document = json.loads(installation.tidings("deliveries", "show", "cat", "--json").stdout)
    assert [(one["destination"], one["state"]) for one in document["deliveries"]] == [("crm", "blocked"), ("hook", "confirmed")]
    absent = installation.tidings("deliveries", "show", "nobody")
    assert absent.exit_code == 1
    assert "nobody" in absent.output


def test_retry_and_drop_write_a_command_for_each_that_was_chosen(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    result = installation.tidings("deliveries", "retry", "--destination", "crm", "--reason", "exhausted", "--reason", "suppressed", "--yes")
    assert result.exit_code == 0, result.output
    assert "2 command(s) written" in result.stderr
    assert "tidings deliveries show" in result.stderr
    assert installation.tidings("deliveries", "drop", "--user", "ann", "--yes").exit_code == 0
    assert commands_now(installation) == [("drop", "ann", "crm"), ("retry", "bob", "crm"), ("retry", "cat", "crm")]


def test_a_command_is_never_older_than_what_it_is_about_whatever_the_clock_says(installation: Installation) -> None:
    given_up = dead("crm", "refused", -HOUR_MS)
    write_outbox(installation, entry("ann", given_up))
    assert installation.tidings("deliveries", "retry", "--user", "ann", "--yes").exit_code == 0
    kafka = installation.settings.kafka
    ((_, _, value),) = records_of(kafka, TopicNames.of(kafka).delivery_commands)
    assert DeliveryCommand.FromString(value).issued_at_ms == given_up.abandoned_at_ms


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_nothing_is_written_unasked(installation: Installation, action: str) -> None:
    write_outbox(installation, *a_shops_outbox())
    no_filter = installation.tidings("deliveries", action, "--yes")
    assert (no_filter.exit_code, "--all" in no_filter.output) == (2, True)
    no_terminal = installation.tidings("deliveries", action, "--destination", "crm")
    assert (no_terminal.exit_code, "3 deliveries" in no_terminal.output) == (1, True)
    assert commands_now(installation) == []


def test_noise_in_the_changelog_hides_nobody(installation: Installation) -> None:
    write_outbox(installation, *a_shops_outbox())
    write_table(installation.settings.kafka, "outbox", [("noise", b"\xff" * 1_000_000), ("gone", None), ("noise2", b"")])
    assert len(listed(installation)) == 4
