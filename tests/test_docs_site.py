"""The documentation site is built without a warning, from what the code says now, and asks no other host.

tests/browser/test_site.py searches it, opened from its folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hilsim.commands.main import COMMANDS
from hilsim.describe.keys import keys_of
from hilsim.places import CODE as PROJECT
from tests.site import build_site

LOADED = re.compile(r"""<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//""")


@pytest.mark.slow
def test_the_site_is_built_and_a_broken_link_fails_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = build_site("--site-dir", str(site))
    assert done.returncode == 0, done.stderr
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in commands for name in COMMANDS)
    scenario = (site / "reference/keys_scenario.html").read_text(encoding="utf-8")
    assert all(f"<code>{key.path.rpartition('.')[2]}</code>" in scenario for key in keys_of("scenario"))
    assert "draft_tokens" in (site / "search/search_index.js").read_text(encoding="utf-8")
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert [page for page, text in pages.items() if LOADED.search(text)] == []
    assert LOADED.search('<script src="https://elsewhere.example/shim"></script>')
    # A folder's pages cannot start workers: each page has the script that searches without one.
    shims = {page: re.findall(r'src="([^"]*iframe-worker[^"]*)"', text) for page, text in pages.items()}
    assert [
        page for page, [shim] in shims.items() if not shim.startswith("/") and not (page.parent / shim).exists()
    ] == []

    config = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    broken = PROJECT / "mkdocs.broken.yml"  # relative paths in it are to where it lies
    broken.write_text(config.replace("heat.md", "no_such_page.md"), encoding="utf-8")
    try:
        assert build_site("--site-dir", str(tmp_path / "other"), "--config-file", str(broken)).returncode != 0
    finally:
        broken.unlink()
