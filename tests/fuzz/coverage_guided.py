"""The process that libFuzzer runs in: the first byte of an input chooses the decoder, the rest is for it. See __main__.py."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["app"], enable_loader_override=False):
    from tests.fuzz.decoders import decoders


def main() -> None:
    only = os.environ.get("TIDINGS_FUZZ_DECODER", "")
    chosen = [(name, decoder) for name, decoder in decoders().items() if only in name]
    directory = Path(sys.argv[-1])
    for place, (_, decoder) in enumerate(chosen):
        for number, data in enumerate(decoder.corpus[:40]):
            (directory / f"valid-{place}-{number}").write_bytes(bytes([place]) + data)

    def one_input(data: bytes) -> None:
        if not data:
            return
        name, decoder = chosen[data[0] % len(chosen)]
        try:
            decoder.check(data[1:])
        except Exception:
            print(f"\n=== decoders: {name} fails by {data[1:]!r}", flush=True)
            raise

    def another(data: bytes, max_size: int, seed: int) -> bytes:
        """Bytes changed as libFuzzer does, or a message changed at a place of its own."""
        chance = random.Random(seed)
        if not data or chance.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        place = data[0] % len(chosen)
        decoder = chosen[place][1]
        return (bytes([place]) + decoder.noise(chance, data[1:]))[:max_size]

    atheris.Setup(sys.argv, one_input, custom_mutator=another)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
