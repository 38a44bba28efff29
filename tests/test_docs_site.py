"""The documentation site is built without a warning, from what the code says now, and can be searched offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.commands.main import COMMANDS
from hilsim.describe.keys import keys_of
from hilsim.places import CODE as PROJECT


@pytest.mark.slow
def test_the_site_is_built_and_a_broken_link_fails_it(tmp_path: Path) -> None:
    def build(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", *options]
        quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run(command, cwd=PROJECT, env=quiet, capture_output=True, text=True, check=False)

    site = tmp_path / "site"
    done = build("--site-dir", str(site))
    assert done.returncode == 0, done.stderr
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in commands for name in COMMANDS)
    scenario = (site / "reference/keys_scenario.html").read_text(encoding="utf-8")
    assert all(f"<code>{key.path.rpartition('.')[2]}</code>" in scenario for key in keys_of("scenario"))
    assert "draft_tokens" in (site / "search/search_index.js").read_text(encoding="utf-8")
    assert "https://fonts.g" not in (site / "index.html").read_text(encoding="utf-8")

    config = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    broken = PROJECT / "mkdocs.broken.yml"  # relative paths in it are to where it lies
    broken.write_text(config.replace("heat.md", "no_such_page.md"), encoding="utf-8")
    try:
        assert build("--site-dir", str(tmp_path / "other"), "--config-file", str(broken)).returncode != 0
    finally:
        broken.unlink()
