"""What a data directory is a copy of, written into it at the first start and compared at every later one.

A database says how far it holds its changelog, not of which application or of how many partitions: taken for another's, its offsets would
mean other records, and its keys would lie in other partitions than where they are looked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from app.errors import StateError

FILE_NAME = "tidings.json"
#: Of the directory's layout and the databases' keys. A release that cannot read what this one writes has a higher one.
FORMAT_VERSION = 1


def claim_data_directory(directory: Path, application_id: str, partitions: int) -> None:
    """Make the directory this application's, or see that it is. Raises StateError, which says what to do, when it is another's.

    One without the file is taken as it is: empty, or of before there was one, and then recovery compares the databases with their logs.
    """
    own = {"format": FORMAT_VERSION, "application_id": application_id, "partitions": partitions}
    file = directory / FILE_NAME
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        _write(file, own)
        return
    except (OSError, ValueError) as exc:
        raise StateError(f"cannot read {file}: {exc}. {_remedy(directory)}") from None
    if found == own:
        return
    if not isinstance(found, dict) or found.get("format") != FORMAT_VERSION:
        has = found.get("format") if isinstance(found, dict) else None
        raise StateError(
            f"{directory} has format {has!r}, and this release of Tidings reads format {FORMAT_VERSION}. "
            f"Start the release that wrote it, or: {_remedy(directory)}"
        )
    if found.get("application_id") != application_id:
        raise StateError(
            f"{directory} belongs to the application {found.get('application_id')!r}, and kafka.application_id is {application_id!r}. "
            f"Set worker.data_dir to another directory, or correct kafka.application_id, or: {_remedy(directory)}"
        )
    raise StateError(
        f"{directory} was made for {found.get('partitions')!r} partitions, and kafka.partitions is {partitions}. The number is fixed "
        f"for the life of the data: correct kafka.partitions, or, if the topics were made anew: {_remedy(directory)}"
    )


def _write(file: Path, content: dict[str, object]) -> None:
    """All of it or nothing, whenever the process dies."""
    beside = file.with_name(f".{FILE_NAME}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w") as out:
            json.dump(content, out)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as exc:
        raise StateError(
            f"cannot write {file}: {exc.strerror or exc}. worker.data_dir must be a directory that the worker may write to"
        ) from None


def _remedy(directory: Path) -> str:
    return f"remove {directory}, the changelogs have all that is in it"
