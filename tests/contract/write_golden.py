"""Writes the golden request of every kind anew: ``python -m tests.contract.write_golden``. Read the difference before you commit it."""

from __future__ import annotations

from pathlib import Path

import orjson

from app.destinations.requests import Part
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann

for kind, destination in EXAMPLES.items():
    part = destination.encode(ann())
    assert isinstance(part, Part)
    request = destination.request([part])
    shown = {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": orjson.loads(request.body)}
    written = orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (Path(__file__).parent / "golden" / f"{kind}.json").write_bytes(written)
