"""The frame of every page: what one is made of, and one self-contained file of HTML: no network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.models import Model
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from hilsim.cost.caveats import caveats, is_against
from hilsim.cost.fit import fits_of
from hilsim.describe.setup import Setup
from hilsim.describe.write import typed_scenario
from hilsim.errors import InputError
from hilsim.files import place_faults, written
from hilsim.show.numbers import clean, counted
from hilsim.show.table import Table, on_terminal
from hilsim.versions import versions

MOST_NAMED = 4  # of those that have a caveat
MOST_ASSUMPTIONS = 200  # rows of the table of assumptions; a page of many setups may have more


@dataclass(frozen=True)
class Turn:
    """A question, and its answer in stretches, drafted or the target's own."""

    user: str
    answer: tuple[tuple[str, bool], ...]
    facts: str


@dataclass(frozen=True)
class Section:
    """A part of a page. `plots` are drawn in the browser; `charts` are their places in the page; `hints` are how to use
    them, which paper leaves out.
    """

    title: str
    sentences: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    plots: tuple[Model, ...] = ()
    turns: tuple[Turn, ...] = ()
    tables: tuple[Table, ...] = ()
    listings: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its name in links."""
        return self.title.replace(" ", "-")


@dataclass(frozen=True)
class Page:
    """A page: what it is about, the question, the verdict in a sentence and whether that is good news, its parts."""

    name: str
    about: str
    question: str
    headline: str
    good: bool
    sections: tuple[Section, ...]
    verdict: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


@cache
def template(name: str) -> Template:
    """One of the templates of this folder; everything that it is given is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=PackageLoader("hilsim.show.page", ""))
    environment.filters["shown"] = on_terminal
    return environment.get_template(name)


def section_html(section: Section, name: str = "section.html", **more: object) -> str:
    """A section without its charts, as text of HTML, for a page that is live."""
    return template(name).render(section=section, **more)


def html_of(page: Page) -> str:
    """A page as text of HTML, with the plotting library in it where it draws."""
    plots = [plot for section in page.sections for plot in section.plots]
    script, places = components(plots, wrap_script=True) if plots else ("", ())
    left = iter(places)
    sections = [replace(section, charts=tuple(next(left) for _ in section.plots)) for section in page.sections]
    drawn = Resources(mode="inline", components=["bokeh"]).render_js() if plots else ""
    return template("page.html").render(page=page, sections=sections, scripts=f"{drawn}\n{script}")


def about(kind: str, facts: Mapping[str, object]) -> str:
    """The line above a page's question: which version made it, and what identifies it."""
    return ", ".join([f"hilsim {versions()['hilsim']}", kind, *(f"{name} {value}" for name, value in facts.items())])


def assumptions(figures: Iterable[Mapping[str, Any]]) -> Section:
    """Every figure that an answer rests on and that was not measured, each once, with its source."""
    rows = list(
        dict.fromkeys(
            (
                str(one["figure"]),
                str(one["value"]),
                str(one["kind"]),
                "" if not one.get("range") else f"{one['range'][0]:g} to {one['range'][1]:g}",
                clean(str(one["source"])),
            )
            for one in figures
        )
    )
    sentence = f"{counted(len(rows), 'figure')} that the answer rests on and that were not measured for it."
    if len(rows) > MOST_ASSUMPTIONS:
        sentence += f" The first {MOST_ASSUMPTIONS} are listed."
    table = Table(("figure", "value", "kind", "range", "source"), rows[:MOST_ASSUMPTIONS], left=5)
    return Section("assumptions", (sentence,), tables=(table,))


def caveats_of(setups: Iterable[tuple[str, Setup]]) -> tuple[tuple[str, ...], bool]:
    """What must be stated of the setups that an answer names, each caveat once, with those that have it where there are
    several; and whether any of it speaks against the answer.
    """
    found: dict[tuple[str, str], list[str]] = {}
    names = []
    for name, setup in setups:
        names.append(name)
        for one in caveats(setup, fits_of(setup)):
            found.setdefault((one.kind, one.text), []).append(name)
    several = len(names) > 1
    lines = [
        caveat_line(f"{kind}, {named(having)}" if several and having != names else kind, text)
        for (kind, text), having in found.items()
    ]
    return tuple(lines), is_against(kind for kind, _ in found)


def named(names: Sequence[str]) -> str:
    """Some of several, the first of them by name."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return "; ".join([*names[:MOST_NAMED], *more])


def caveat_line(kind: str, text: str) -> str:
    """A caveat above the parts of a page."""
    return f"{clean(kind)}: {clean(text)}"


def reproduce(command: str, texts: Sequence[str]) -> Section:
    """The command that gives the answer again, and the exact files that it reads."""
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    return Section("reproduce", (f"Made with {made}.",), listings=tuple(filter(None, (command, *texts))))


def measure_first(setup: Setup) -> str:
    """The command that ranks measurements for a scenario."""
    command = f"hilsim measure-first {typed_scenario(Path(setup.file), setup.overrides)}"
    return f"{command} ranks the measurements on boards that would narrow this answer."


def write_page(file: str | Path, page: Page) -> Path:
    """Write a page, whole or not at all. Raises `InputError` where it cannot be written."""
    file = Path(file)
    if faults := place_faults(file, "html"):
        raise InputError(faults)
    text = html_of(page)
    with written(file) as path:
        path.write_text(text, encoding="utf-8")
    return file
