"""Fails when the schemas break what was released: compares them, with buf, to every baseline that was ever committed.

proto/baseline.binpb holds the schemas of the last release (`make proto-baseline`). Overwriting it does not hide a break, for the
earlier ones are compared too. BUF names the program. Prints what it compared; exit code 1 for a break.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = "proto/baseline.binpb"
_ROOT = Path(__file__).resolve().parent.parent


def baselines() -> dict[str, bytes]:
    """Each distinct baseline by what to call it: the one in the work tree, and those in the history as far as the clone has it."""
    found: dict[str, bytes] = {}
    if (_ROOT / BASELINE).exists():
        found[BASELINE] = (_ROOT / BASELINE).read_bytes()
    for commit in _git("log", "--format=%h", "--diff-filter=AM", "--", BASELINE).decode().split():
        image = _git("show", f"{commit}:{BASELINE}")
        if image and image not in found.values():
            found[f"{BASELINE} as of {commit}"] = image
    return found


def breaks(image: bytes, buf: str) -> str:
    """What the schemas as they are break of the image, one finding a line; empty if nothing."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as file:
        file.write(image)
        file.flush()
        done = subprocess.run([buf, "breaking", "--against", file.name], cwd=_ROOT, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


def main() -> None:
    buf = str((_ROOT / os.environ.get("BUF", "buf")).resolve()) if os.sep in os.environ.get("BUF", "") else "buf"
    found = baselines()
    if not found:
        print("the wire: no baseline is committed yet, so there is nothing to break (make proto-baseline makes one at a release)")
        return
    broken = False
    for name, image in found.items():
        what = breaks(image, buf)
        broken = broken or bool(what)
        print(f"the wire against {name}: {'BROKEN' if what else 'unbroken'}" + (f"\n{what}" if what else ""))
    if broken:
        print("A message that is stored or on its way must stay readable: add a field instead of changing one, or a new package (v2).")
        sys.exit(1)


if __name__ == "__main__":
    main()
