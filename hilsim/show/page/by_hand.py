"""A scenario tried by hand on a live page of Bokeh's server: controls, the answer, and the figures of its run.

The browser sends places in lists and nothing else that is looked at; what it gets is text that is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bokeh.document import Document
from bokeh.models import Column, CustomJS, InlineStyleSheet, Row
from bokeh.models.ui.ui_element import UIElement
from bokeh.models.widgets.buttons import Button
from bokeh.models.widgets.inputs import Select
from bokeh.models.widgets.markups import Div, PreText
from bokeh.server.callbacks import TimeoutCallback

from hilsim.errors import HilsimError
from hilsim.measure.measures import measured
from hilsim.runs.replay import text_function
from hilsim.runs.run import RunPair
from hilsim.show import by_hand as written
from hilsim.show.document import document
from hilsim.show.numbers import clean, counted, duration
from hilsim.show.page import frame
from hilsim.show.page import run as of_run
from hilsim.show.page.frame import Section
from hilsim.show.run import Run
from hilsim.study.by_hand import ByHand, Control, HandAnswer, traces_of
from hilsim.versions import versions

FIGURES_AFTER_MS = 60  # the answer is sent first; where more changes come within this time, the last one is drawn
# Each widget is a document of its own in the browser, which has the variables of the page's style and nothing else.
INSIDE = """
:host { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); min-width: 0; max-width: 100%; }
:host .bk-clearfix { display: block; width: 100%; }
p { margin: .4rem 0; }
.bk-input { background-color: var(--card); color: var(--ink); border-color: var(--line); font-size: 1rem; }
.bk-input option { background-color: var(--card); color: var(--ink); }
"""
ANSWER_AFTER_MS = 10  # changes that came while another was computed are read first: the last one is answered
# The status has the values that it is about; until they are those of the controls, a later answer is on its way.
COMPUTING = """
if (controls.some((control, place) => control.value !== status.tags[place])) {
  status.text = "<p>computing ...</p>";
}
"""
COPY = """
const done = () => { button.label = "copied"; setTimeout(() => { button.label = label; }, 1500); };
if (navigator.clipboard) { navigator.clipboard.writeText(source.text).then(done); }
else {
  const area = document.createElement("textarea");
  area.value = source.text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  done();
}
"""


class HandPage:
    """One open page: its controls, the answer to what they are set to, and the figures of its run."""

    def __init__(self, tried: ByHand, shell: Document):
        self.tried, self.shell, self.answer = tried, shell, tried.own
        self.places: dict[str, int] = {}  # what the controls are set to
        self.pending: TimeoutCallback | None = None  # what will answer them
        self.waiting: TimeoutCallback | None = None  # what will draw the figures, or go on with it
        self.steps: Iterator[Section] = iter(())
        self.drawn: list[UIElement] = []
        style = InlineStyleSheet(css=frame.template("style.css").render() + INSIDE)

        def text(name: str) -> Div:
            return Div(name=name, disable_math=True, stylesheets=[style], sizing_mode="stretch_width")

        self.style, self.status, self.shown = style, text("status"), text("shown")
        self.status.syncable = False  # what the browser writes into it meanwhile stays there
        self.answers = 0
        self.line = PreText(name="line", stylesheets=[style], sizing_mode="stretch_width")
        self.yaml = PreText(name="yaml", stylesheets=[style], sizing_mode="stretch_width", visible=False)
        self.figures = Column(children=[text("none yet")], name="figures", sizing_mode="stretch_width")
        self.controls = {control.key: self.select(control) for control in tried.controls}
        check = CustomJS(args={"status": self.status, "controls": [*self.controls.values()]}, code=COMPUTING)
        for select in self.controls.values():
            select.js_on_change("value", check)
        self.status.js_on_change("text", check)
        self.lay_out()
        self.show(tried.own)

    def lay_out(self) -> None:
        """Put everything on the page."""
        notes = [f"{control.title}: {control.note}" for control in self.tried.controls if control.note]
        if (own := self.tried.own).why_events:
            notes.append(
                f"each change is run event by event, which takes longer; the first answer took {duration(own.cpu_ms)}"
            )
        self.notes = Div(
            text=frame.section_html(Section("", tuple(notes))), disable_math=True, stylesheets=[self.style]
        )
        reveal = Button(label="show or hide the YAML", name="reveal", button_type="light")
        reveal.js_on_click(CustomJS(args={"yaml": self.yaml}, code="yaml.visible = !yaml.visible;"))
        copies: list[UIElement] = [self.copy("copy the command", self.line), self.copy("copy the YAML", self.yaml)]
        controls: list[UIElement] = [*self.controls.values(), self.status, self.notes]
        answer: list[UIElement] = [
            self.shown,
            self.line,
            Row(children=[*copies, reveal], styles={"flex-wrap": "wrap"}),
            self.yaml,
        ]
        self.shell.add_root(Column(children=controls, name="controls", sizing_mode="stretch_width"))
        self.shell.add_root(Column(children=answer, name="answer", sizing_mode="stretch_width"))
        self.shell.add_root(self.figures)
        scenario = self.tried.setup.scenario
        self.shell.title = f"{clean(scenario.name)}, by hand"
        self.shell.template = frame.template("by_hand.html")
        self.shell.template_variables.update(
            {
                "about": f"hilsim {versions()['hilsim']}, scenario {clean(scenario.name)}, tried by hand",
                "question": clean(scenario.question or scenario.name),
            }
        )

    def select(self, control: Control) -> Select:
        """A list to choose from; its values are places."""
        options: list[str | tuple[str, str]] = [
            (str(place), clean(choice.name)) for place, choice in enumerate(control.choices)
        ]
        made = Select(
            title=control.title, value="0", options=options, name=control.key, stylesheets=[self.style],
            sizing_mode="stretch_width",
        )  # fmt: skip
        made.on_change("value", self.changed)
        return made

    def copy(self, label: str, source: PreText) -> Button:
        """A button that copies a text."""
        button = Button(label=label, button_type="primary", name=label)
        button.js_on_click(CustomJS(args={"button": button, "source": source, "label": label}, code=COPY))
        return button

    def changed(self, attribute: str, old: object, new: object) -> None:
        """A control was changed: answer once nothing changes any more, and draw the figures after that."""
        try:
            places = {key: int(select.value) for key, select in self.controls.items()}
            counts = self.tried.counts_drafts(places)
            if (drafted := self.controls.get("drafted")) is not None:
                drafted.disabled = not counts
                if places["drafted"] and not counts:
                    drafted.value = "0"  # which is a change, and comes here again
                    return
        except (ValueError, TypeError, LookupError):
            self.say("That is none of the choices; the answer is as it was.")
            return
        self.places = places
        if self.pending is None:
            self.pending = self.shell.add_timeout_callback(self.answer_now, ANSWER_AFTER_MS)

    def answer_now(self) -> None:
        """Answer what the controls are set to."""
        self.pending = None
        self.show(self.tried.answer(self.places))

    def say(self, text: str) -> None:
        """The status, for what the controls are set to."""
        self.status.tags = [select.value for select in self.controls.values()]
        self.status.text = f'<p class="soft">{text}</p>'

    def show(self, answer: HandAnswer) -> None:
        """Show an answer, and have its figures drawn once it was sent."""
        self.answer = answer
        table = written.table(answer, self.tried.own)
        self.shown.text = frame.section_html(
            Section("", tables=(table,)), "answer.html", headline=written.headline(answer),
            good=written.is_good(answer), reasons=written.reasons(answer), source=written.source(answer),
        )  # fmt: skip
        self.line.text = written.set_line(self.tried, answer)
        self.yaml.text = written.yaml_text(self.tried, answer)
        self.answers += 1  # so that it always changes
        self.say(f"Answer {self.answers}: {duration(answer.cpu_ms)} of processor time.")
        if self.waiting is not None:
            self.shell.remove_timeout_callback(self.waiting)
        self.waiting = self.shell.add_timeout_callback(self.draw, FIGURES_AFTER_MS)

    def draw(self) -> None:
        """Begin to draw the run of the answer that is shown, or what would help where there is none."""
        answer = self.answer
        self.steps = sections_of(answer) if answer.refused is None else refused(self.tried, answer)
        self.drawn = []
        self.go_on()

    def go_on(self) -> None:
        """Make one more section; the browser gets all at once. Changes of a control are answered between sections."""
        self.waiting = None
        try:
            section = next(self.steps, None)
        except HilsimError as error:
            section, self.steps = Section("", (clean(written.as_typed(str(error), self.tried.file)),)), iter(())
        if section is None:
            self.figures.children = self.drawn
            return
        text = frame.section_html(section)
        self.drawn.append(Div(text=text, disable_math=True, stylesheets=[self.style], sizing_mode="stretch_width"))
        self.drawn += [plot for plot in section.plots if isinstance(plot, UIElement)]
        self.waiting = self.shell.add_timeout_callback(self.go_on, 1)


def refused(tried: ByHand, answer: HandAnswer) -> Iterator[Section]:
    """What would help where a choice cannot run."""
    changes = tried.remedies(answer)
    sentences = [f"{clean(str(change))}" for change in changes]
    check = written.set_line(tried, answer).replace("hilsim simulate", "hilsim check", 1)
    sentences.append("This command has all findings, and looks for ways out:")
    yield Section("what would help", tuple(sentences), listings=(check,))


def sections_of(answer: HandAnswer) -> Iterator[Section]:
    """The event simulation of an answer: where its time goes, its timeline, conversation, acceptance and memory."""
    setup, held = answer.setup, answer.held
    assert setup is not None, "what is refused does not run"
    assert held is not None
    baseline, ours = traces_of(answer)
    speculative = None if setup.scenario.policy.name == "target_only" else ours
    found = document(setup, held, baseline, speculative, answer.plans)
    ran = Run(setup, RunPair(baseline, speculative, 0.0, 0.0), found, text_function(setup))
    yield confirmation(answer, measured(setup, dict(held), baseline, ours))
    block = found["speculative"] or found["baseline"]
    spent = of_run.where_time_goes(found)
    yield replace(spent, sentences=(f"{written.shares(block['lost_ms'])}.", *spent.sentences))
    yield of_run.time_line(ran)
    if found["speculative"] is not None and found["speculative"]["num_accepted_tokens_per_pos"]:
        yield of_run.acceptance(found["speculative"], found["break_even"])
    yield of_run.memory(found)
    yield of_run.conversation(ran)


def confirmation(answer: HandAnswer, by_events: dict[str, float | None]) -> Section:
    """Whether the event simulation has the numbers that screening gave."""
    assert answer.ours is not None
    differ = [name for name, value in answer.ours.items() if by_events[name] != value]
    if answer.why_events:
        sentence = "What follows is from the same run, event by event."
    elif differ:
        sentence = f"THE EVENT SIMULATION DIFFERS in {', '.join(differ)}: this is a bug of hilsim."
    else:
        sentence = f"Run again event by event: all {counted(len(answer.ours), 'number')} of the screening are equal."
    return Section("run", (sentence,))
