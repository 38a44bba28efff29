"""A scenario tried by hand in a real browser: a control is changed, the answer changes, the command is copied."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from hilsim.places import CODE as PROJECT

pytestmark = pytest.mark.browser
FEW = ["--set", "workload.requests=6", "--set", "workload.output_tokens=40"]
DRAWN_MS = 60_000  # of a busy machine


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the server is; it ends as by Ctrl-C."""
    command = [sys.executable, "-m", "hilsim", "serve", "scenarios/paper_table.yaml", "--port", "0", *FEW]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().removeprefix("listening on ").strip()
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 130
    assert "Traceback" not in errors


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page with its figures drawn; it complained about nothing and asked nobody else."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found, complaints, strangers = context.new_page(), [], []
    found.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda asked: None if asked.url.startswith(address) else strangers.append(asked.url))
    found.goto(address)
    expect(found.get_by_text("of the screening are equal")).to_be_visible(timeout=DRAWN_MS)
    yield found
    assert complaints == []
    assert strangers == []
    context.close()


def test_a_change_is_answered_and_its_command_copied(page: Page) -> None:
    verdict = page.locator(".verdict")
    before = verdict.inner_text()
    page.get_by_label("link").select_option(label="1000base-t1")
    page.get_by_label("drafted tokens").select_option(label="2")
    expect(page.get_by_text("--set policy.draft_tokens=2 --set link=1000base-t1")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text(re.compile("Answer [23]:"))).to_be_visible()  # 2 where the first change was overtaken
    assert verdict.inner_text() != before
    page.get_by_role("button", name="copy the command").click()
    expect(page.get_by_role("button", name="copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    words = ["workload.requests=6", "workload.output_tokens=40", "policy.draft_tokens=2", "link=1000base-t1"]
    assert copied == " ".join(["hilsim simulate scenarios/paper_table.yaml", *(f"--set {word}" for word in words)])
    page.get_by_role("button", name="show or hide the YAML").click()
    expect(page.get_by_text("link: 1000base-t1")).to_be_visible()


def test_what_cannot_run_is_an_answer_and_the_way_back_another(page: Page) -> None:
    page.get_by_label("policy").select_option(label="prompt_lookup")
    expect(page.get_by_text("This cannot run.")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_text("which have no text")).to_be_visible()
    expect(page.get_by_text("hilsim check scenarios/paper_table.yaml")).to_be_visible(timeout=DRAWN_MS)
    page.get_by_label("policy").select_option(label="async")
    expect(page.get_by_text("By the event simulation")).to_be_visible(timeout=DRAWN_MS)
    expect(page.get_by_label("drafted tokens")).to_be_disabled()


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_it_is_as_wide_as_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
