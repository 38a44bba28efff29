"""A browser of the system's, and pages of every kind opened in it, with all that a page complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

import hilsim
from hilsim.commands.main import main

NAMES = ("chromium", "chromium-browser", "google-chrome")
STUDY = """
name: lengths
question: How many tokens should be drafted?
scenario: {scenario}
set: {{workload: {{requests: 2, prompt_tokens: 60, output_tokens: 24, pause_ms: 0}}}}
axes:
  - {{key: policy.draft_tokens, values: [1, 2, 3, 4], name: drafts}}
  - {{key: logits.acceptance, values: [0.5, 0.8]}}
metrics: [speedup, tokens_per_round]
"""
FEW = ("--set", "workload.requests=2", "--set", "workload.output_tokens=16")
NARROW = (
    "--workers=1", "--conversations=1", "--finalists=1", "--drafts=draft-68m-llama3:models/draft-0.8m",
    "--only=draft.precision=w4", "--only=target.precision=w4", "--only=target.widths=1-8-128", "--only=target.unit=npu",
    "--only=draft.unit=gpu", "--only=policy.name=sync,target_only",
)  # fmt: skip
KINDS = ("simulate", "explore", "study", "modes", "validate")


@dataclass
class Opened:
    """A page in a browser: what it complained about, and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Keep what is worse than a note."""
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def ask(self, request: Request) -> None:
        """Keep what is not the page itself."""
        if request.url != self.page.url and not request.url.startswith("file:"):
            self.requests.append(request.url)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found is not None, f"found no browser; expected one of {', '.join(NAMES)} (make browser)"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every kind, as the commands write it."""
    folder = tmp_path_factory.mktemp("pages")
    study, scenario = folder / "lengths.yaml", Path(hilsim.load("paper_table").file).resolve()
    study.write_text(STUDY.format(scenario=scenario), encoding="utf-8")
    few = ["--set", "workload.count=1", "--set", "workload.max_turns=2", "--set", "workload.max_new_tokens=12"]
    arguments = {
        "simulate": ["orin_8295_greedy", *few, "--plain", "--uncertainty", "10"],
        "explore": ["orin_8295_greedy", *NARROW],
        "study": [str(study), "--workers", "1", "--out", str(folder)],
        "modes": ["eagle_8775", *FEW, "--batch", "1,2"],
        "validate": ["--summary"],
    }
    files = {kind: folder / f"{kind}.html" for kind in KINDS}
    for kind, file in files.items():
        assert main([kind, *arguments[kind], "--html", str(file)]) == 0
    return files


def opened(browser: Browser, file: Path, width: int = 1000, *, dark: bool = False) -> Opened:
    """A page with its charts drawn; complaints and requests are kept from the start."""
    found = Opened(browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"))
    found.page.on("console", found.hear)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("request", found.ask)
    found.page.goto(file.as_uri())
    # Bokeh's document is idle once all of its charts are drawn.
    found.page.wait_for_function("Bokeh.documents.length > 0 && Bokeh.documents.every(one => one.is_idle)")
    return found
