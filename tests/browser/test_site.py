"""The documentation site opened from its folder: searching finds a page, and no other host is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.site import build_site

pytestmark = pytest.mark.browser


def test_the_site_is_searched_from_its_folder_and_asks_no_other_host(browser: Browser, tmp_path: Path) -> None:
    done = build_site("--site-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "heat.html").as_uri())
    page.locator(".md-search__input").fill("measure first")
    results = page.locator(".md-search-result__link")
    expect(results.first).to_be_visible(timeout=15_000)
    places = [str(link.get_attribute("href")).partition("?")[0].rpartition("/")[2] for link in results.all()]
    assert "measure_first.html" in places
    results.nth(places.index("measure_first.html")).click()
    expect(page.locator("h1")).to_contain_text("easure first")
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:", "about:"))] == []
    page.close()
