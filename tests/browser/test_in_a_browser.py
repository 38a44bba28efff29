"""Pages in a real browser: they render whole at every width, in light and dark, zoom, answer the pointer, and print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import KINDS, opened
from tests.pages import MOST_BYTES

pytestmark = pytest.mark.browser
# Where the first finalist lies on the screen, by the chart's own scales.
FINALIST = """() => {
    const plot = Object.values(Bokeh.index)[0], data = plot.model.renderers.at(-1).data_source.data;
    const box = plot.el.getBoundingClientRect();
    return [box.x + plot.frame.x_scale.compute(data.x[0]), box.y + plot.frame.y_scale.compute(data.y[0])];
}"""
PLOTS = "[...Bokeh.documents].flatMap(one => [...one._all_models.values()]).filter(one => one.type === 'Figure')"


@pytest.mark.parametrize("width", [400, 1000, 1600])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_renders_without_network_and_complaints_at_every_width(
    browser: Browser, written: dict[str, Path], kind: str, width: int
) -> None:
    found = opened(browser, written[kind], width)
    assert found.complaints == []
    assert found.requests == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert written[kind].stat().st_size < MOST_BYTES
    sections = found.page.locator("section")
    assert sections.count() == found.page.locator("nav a").count() > 4
    drawn = found.page.locator(".chart")
    for place in range(drawn.count()):
        box = drawn.nth(place).bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 70, "a chart that was not drawn is empty"
    found.page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dark_page_has_light_letters_on_dark_ground(browser: Browser, written: dict[str, Path], kind: str) -> None:
    lightness = {}
    for dark in (False, True):
        found = opened(browser, written[kind], dark=dark)
        style = "getComputedStyle(document.body)"
        lightness[dark] = [brightness(found.page.evaluate(f"{style}.{name}")) for name in ("color", "backgroundColor")]
        found.page.close()
    assert lightness[False][0] < 0.3 < 0.9 < lightness[False][1]
    assert lightness[True][1] < 0.3 < 0.7 < lightness[True][0]


def brightness(colour: str) -> float:
    """The mean of red, green and blue of a colour, from 0 to 1."""
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / (3 * 255)


def middle(page: Page, chart: int) -> tuple[float, float]:
    """The middle of a chart, after scrolling to it."""
    place = page.locator(".chart").nth(chart)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shown_range(page: Page) -> tuple[float, float]:
    """The ends of the first chart's horizontal axis."""
    start, end = page.evaluate(f"(() => {{ const r = ({PLOTS})[0].x_range; return [r.start, r.end]; }})()")
    return start, end


def test_the_wheel_alone_scrolls_the_page_over_a_chart(browser: Browser, written: dict[str, Path]) -> None:
    page = opened(browser, written["simulate"]).page
    page.mouse.move(*middle(page, 0))
    before, at = shown_range(page), page.evaluate("scrollY")
    page.mouse.wheel(0, 400)
    page.wait_for_function(f"scrollY > {at} + 300")
    assert shown_range(page) == before
    page.close()


def test_the_legend_of_the_timeline_has_the_colour_of_every_kind_that_is_drawn(
    browser: Browser, written: dict[str, Path]
) -> None:
    page = opened(browser, written["simulate"]).page
    kinds, items = page.evaluate(f"""(() => {{
        const plot = ({PLOTS})[0], drawn = plot.renderers[0].data_source.data;
        const legend = plot.above.find(one => one.items);
        return [[...new Set(drawn.kind)], legend.items.map(one => [one.label.value, drawn.kind[one.index]])];
    }})()""")
    assert sorted(kinds) == sorted(label for label, _ in items)
    assert all(label == kind for label, kind in items)
    hints = page.locator("#timeline p.screen")
    assert "Ctrl" in hints.inner_text()
    page.emulate_media(media="print")
    assert not hints.is_visible()
    page.close()


def test_the_wheel_zooms_the_timeline_with_ctrl_held_and_reset_undoes_it(
    browser: Browser, written: dict[str, Path]
) -> None:
    page = opened(browser, written["simulate"]).page
    before = shown_range(page)
    page.mouse.move(*middle(page, 0))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    page.wait_for_timeout(500)
    after = shown_range(page)
    assert after[1] - after[0] < 0.8 * (before[1] - before[0])
    assert before[0] <= after[0] < after[1] <= before[1]
    page.evaluate(f"({PLOTS})[0].reset.emit()")
    page.wait_for_timeout(300)
    assert shown_range(page) == pytest.approx(before)
    page.close()


def pointed_at(page: Page, x: float, y: float) -> list[str]:
    """What is read where the pointer comes to rest."""
    page.mouse.move(x - 20, y)
    page.mouse.move(x, y, steps=3)
    values = page.locator(".bk-tooltip-row-value")
    values.first.wait_for()
    return values.all_inner_texts()


def test_a_bar_of_the_timeline_answers_the_pointer_with_what_how_long_and_why(
    browser: Browser, written: dict[str, Path]
) -> None:
    page = opened(browser, written["simulate"]).page
    x, _ = middle(page, 0)
    box = page.locator(".chart").nth(0).bounding_box()
    assert box is not None
    # The lowest lane is the target's, which is busy almost all of the time.
    what, took, why = pointed_at(page, x, box["y"] + box["height"] - 55)[:3]
    assert re.fullmatch(r"(verify|prefill|decode), request \d+", what)
    assert re.fullmatch(r"[\d.]+ (ms|s)", took)
    assert re.match(r"\d+ rows? .*after \d+ cached", why)
    page.close()


def test_dots_of_an_exploration_answer_the_pointer_with_their_choices(
    browser: Browser, written: dict[str, Path]
) -> None:
    page = opened(browser, written["explore"]).page
    page.locator(".chart").nth(0).scroll_into_view_if_needed()
    x, y = page.evaluate(FINALIST)
    texts = pointed_at(page, x, y)
    assert any(re.match("finalist 1: target on .*policy sync", text) for text in texts)
    page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_prints_in_light_colours_with_its_charts_inside_the_paper(
    browser: Browser, written: dict[str, Path], kind: str
) -> None:
    page = opened(browser, written[kind], 1400, dark=True).page
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 1
    assert len(paper) > 20_000
    page.emulate_media(media="print")
    assert brightness(page.evaluate("getComputedStyle(document.body).color")) < 0.3
    zoom = float(page.evaluate("getComputedStyle(document.querySelector('.chart')).zoom"))
    drawn = page.evaluate("document.body.clientWidth")
    assert zoom < 1
    assert zoom * 1062 <= 700, "charts as wide as the largest page fit on A4"
    assert drawn
    page.close()
