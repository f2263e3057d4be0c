"""`make fuzz SECONDS=60`: noise against every decoder, guided by coverage, and requests against every route, half of the time each.

Decoders are fuzzed with atheris (libFuzzer) where its wheel is installed, which is on Linux with x86-64; otherwise with the tests' own
mutations. What is found is printed, and kept in build/fuzz; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the decoders and the HTTP surface for a stated time.")
    parser.add_argument("--seconds", type=float, default=60, help="for all of it (default 60)")
    parser.add_argument("--only", choices=("decoders", "http"), help="one half, with all of the time")
    parser.add_argument("--decoder", default="", help="only decoders with this in their name")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed; repeats what chance chose")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    seconds = options.seconds if options.only else options.seconds / 2
    failed = False
    if options.only != "http":
        failed |= fuzz_decoders(seconds, options.seed, options.decoder)
    if options.only != "decoders":
        failed |= fuzz_http(seconds, options.seed)
    return int(failed)


def fuzz_decoders(seconds: float, seed: int, only: str) -> bool:
    """True if something was found."""
    if importlib.util.find_spec("atheris") is None:
        print("decoders: atheris is not installed (Linux on x86-64: pip install -e '.[fuzz]'), so without coverage to guide", flush=True)
        return fuzz_with_mutations(seconds, seed, only)
    corpus = KEPT / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    # libFuzzer takes the whole process, and ends it.
    libfuzzer = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed % 2**32}", f"-artifact_prefix={KEPT}/", "-max_len=4096",
                 "-rss_limit_mb=1024", "-timeout=20", "-print_final_stats=1", str(corpus)]  # fmt: skip
    environment = {**os.environ, "TIDINGS_FUZZ_DECODER": only}
    command = [sys.executable, "-m", "tests.fuzz.coverage_guided", *libfuzzer]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0


def fuzz_with_mutations(seconds: float, seed: int, only: str) -> bool:
    from tests.fuzz.decoders import decoders

    chance, deadline, inputs = random.Random(seed), time.monotonic() + seconds, 0
    chosen = {name: decoder for name, decoder in decoders().items() if only in name}
    while time.monotonic() < deadline:
        for name, decoder in chosen.items():
            data = decoder.noise(chance)
            inputs += 1
            try:
                decoder.check(data)
            except Exception:
                KEPT.mkdir(parents=True, exist_ok=True)
                (KEPT / f"crash-{name.replace(' ', '-')}").write_bytes(data)
                print(f"decoders: {name} fails by {data!r}", flush=True)
                raise
    print(f"decoders: {inputs:,} inputs, nothing found", flush=True)
    return False


def fuzz_http(seconds: float, seed: int) -> bool:
    from tests.fuzz.requests import fuzz_routes

    found = fuzz_routes(seconds, seed)
    print(f"http: {found.requests:,} requests over {len(found.operations)} operations, {len(found.failures)} failures", flush=True)
    for failure in found.failures:
        print(f"  - {failure}", flush=True)
    return bool(found.failures)


if __name__ == "__main__":
    sys.exit(main())
