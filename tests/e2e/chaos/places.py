"""What a worker stands on: a disk that can be filled (a tmpfs of its own, for which it takes root) and a clock that can be set wrong
(wrong_clock.c, for which it takes a C compiler).
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

DISK_BYTES = 256 * 1024**2
_BALLAST = "ballast"
_LIBRARY_SOURCE = Path(__file__).with_name("wrong_clock.c")


def can_mount() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None


class Disk:
    """A small file system at ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        #: Root without the right to mount, as in a container: then nothing is filled.
        self.is_mounted = made.returncode == 0
        atexit.register(self.unmount)

    def fill(self) -> None:
        """Not a byte is left, nor will be before ``clear``, unless files are removed."""
        with (self.directory / _BALLAST).open("ab", buffering=0) as file:
            for piece in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise

    def clear(self) -> None:
        (self.directory / _BALLAST).unlink(missing_ok=True)

    def wipe(self) -> None:
        """A new disk."""
        wipe(self.directory)

    def unmount(self) -> None:
        """At once, whoever still has files open there. Doing it twice does nothing."""
        atexit.unregister(self.unmount)
        if self.is_mounted:
            self.is_mounted = False
            subprocess.run(["umount", "-l", str(self.directory)], check=False)


def wipe(directory: Path) -> None:
    """Remove all that is in a directory, which stays."""
    for entry in directory.iterdir() if directory.exists() else ():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def can_set_clocks() -> bool:
    return sys.platform == "linux" and shutil.which("cc") is not None


class Clock:
    """The time of day as a process with ``environment`` sees it; what measures durations is left right, as on a host whose clock is set."""

    def __init__(self, directory: Path) -> None:
        """Raises subprocess.CalledProcessError where the library cannot be compiled."""
        directory.mkdir(parents=True, exist_ok=True)
        library, self._file = directory / "wrong_clock.so", directory / "seconds"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_LIBRARY_SOURCE), "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Ahead of the true time by so much, or behind it; at once."""
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
