"""A disk that is full, and a clock that is wrong, are so for those who are to suffer from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos.places import Clock, Disk, can_mount, can_set_clocks, wipe


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not can_mount():
        pytest.skip("only root can mount a disk to fill")
    disk = Disk(tmp_path / "disk")
    if not disk.is_mounted:
        pytest.skip("root may not mount here")
    yield disk
    disk.unmount()


def test_a_full_disk_takes_nothing_until_it_is_cleared_and_keeps_what_it_has(disk: Disk) -> None:
    kept = disk.directory / "kept"
    kept.write_bytes(b"x" * 10)
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (disk.directory / "more").write_bytes(b"x" * 10_000)
    disk.clear()
    (disk.directory / "more").write_bytes(b"x" * 10_000)
    assert kept.read_bytes() == b"x" * 10


def test_a_disk_is_unmounted_whoever_has_files_open_there(disk: Disk) -> None:
    assert os.path.ismount(disk.directory)
    with (disk.directory / "open").open("w"):
        for _ in range(2):
            disk.unmount()
            assert not os.path.ismount(disk.directory)


def test_a_wiped_directory_is_empty_and_still_there(tmp_path: Path) -> None:
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "three").write_text("x")
    wipe(tmp_path)
    assert list(tmp_path.iterdir()) == []
    wipe(tmp_path / "never there")


@pytest.mark.parametrize("seconds", [-3000, 600])
def test_a_clock_jumps_while_its_process_runs_and_durations_stay_right(tmp_path: Path, seconds: int) -> None:
    if not can_set_clocks():
        pytest.skip("clocks are set wrong with a small library: it needs Linux and a C compiler")
    clock = Clock(tmp_path / "clock")
    program = "import time\nwhile True: print(time.time(), time.monotonic(), flush=True); time.sleep(0.2)"
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **clock.environment}, stdout=subprocess.PIPE) as process:
        try:
            assert abs(_said(process)[0] - time.time()) < 2
            clock.jump(seconds)
            _said(process)  # it may have looked at the clock before
            of_day, monotonic = _said(process)
            assert abs(of_day - time.time() - seconds) < 2
            assert abs(monotonic - time.monotonic()) < 2
        finally:
            process.kill()


def _said(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    assert process.stdout is not None
    of_day, monotonic = process.stdout.readline().split()
    return float(of_day), float(monotonic)
