"""A data directory is taken for what it is: another application's, of other partitions or of another format, it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.engine.data_directory import FILE_NAME, claim_data_directory
from app.errors import StateError


def test_a_directory_is_claimed_once_and_taken_ever_after(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there yet"
    claim_data_directory(directory, "shop", 8)
    claim_data_directory(directory, "shop", 8)
    assert [file.name for file in directory.iterdir()] == [FILE_NAME], "nothing is left beside it"


@pytest.mark.parametrize(
    ("application_id", "partitions", "words"),
    [("other-shop", 8, ("'shop'", "'other-shop'", "worker.data_dir")), ("shop", 16, ("8 partitions", "kafka.partitions is 16"))],
)
def test_a_directory_of_another_application_or_partition_count_is_refused(
    tmp_path: Path, application_id: str, partitions: int, words: tuple[str, ...]
) -> None:
    claim_data_directory(tmp_path, "shop", 8)
    with pytest.raises(StateError) as refused:
        claim_data_directory(tmp_path, application_id, partitions)
    for word in (*words, str(tmp_path), "remove"):
        assert word in str(refused.value)
    claim_data_directory(tmp_path, "shop", 8)  # and it is as it was


@pytest.mark.parametrize("content", [b'{"format": 2, "application_id": "shop", "partitions": 8}', b"[]", b"null", b"{", b"\xff\x00"])
def test_a_directory_of_another_format_or_with_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StateError, match="remove"):
        claim_data_directory(tmp_path, "shop", 8)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_process_that_died_while_it_claimed_leaves_a_directory_that_can_be_claimed(tmp_path: Path) -> None:
    (tmp_path / f".{FILE_NAME}.1234").write_text('{"form')
    claim_data_directory(tmp_path, "shop", 8)
    assert json.loads((tmp_path / FILE_NAME).read_text())["application_id"] == "shop"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"worker\.data_dir"):
        claim_data_directory(tmp_path / "file" / "data", "shop", 8)
