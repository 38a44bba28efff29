"""What the dashboard shows where: panels over the tally, chosen by the room there is.

Wide and high terminals see everything; smaller ones lose memory, then the panel of figures, then the timeline. The
conversation and one line of figures always stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from rich.console import Console
from rich.text import Text

from hilsim.cost.between import between_of
from hilsim.cost.memory import Ledger, Part
from hilsim.describe.setup import Setup
from hilsim.show.kinds import BAD, DRAFT, GOOD, KINDS, PARTS, SPOKEN, TARGET, role_of
from hilsim.show.numbers import clean, described, duration_of_ns, gibibytes, nice_step, percent, shortened
from hilsim.show.terminal.lanes import Window, axis, lane
from hilsim.show.terminal.paint import FRAME, bar, beside, fitted, panel, spread
from hilsim.show.terminal.tally import Exchange, Tally
from hilsim.units import NS_PER_MS, NS_PER_S

COLUMN = 42
OWN = f"bold underline {TARGET}"


def parts_of(ledger: Ledger) -> dict[Part, int]:
    """A ledger's bytes by the parts that a bar has."""
    return {part: sum(item.bytes for item in ledger.items if item.part == part) for part in PARTS}


class Layout:
    """Draws a tally. Lines come out exactly as wide and as many as requested."""

    def __init__(self, setup: Setup, ledgers: Mapping[str, Ledger], tally: Tally, console: Console):
        self.setup, self.ledgers, self.tally, self.console = setup, ledgers, tally, console
        self._wrapped: WeakKeyDictionary[Exchange, tuple[tuple[int, str], list[Text]]] = WeakKeyDictionary()

    def on(self, console: Console) -> Layout:
        """The same view for another console."""
        return type(self)(self.setup, self.ledgers, self.tally, console)

    @property
    def colour(self) -> bool:
        return self.console.color_system is not None and not self.console.no_color

    def frame(self, width: int, height: int) -> list[Text]:
        """The whole screen."""
        lines = self.header(width, full=height >= 22)
        wide = width >= 76 and height >= 18
        lanes = len(self.tally.current.tracks)
        legend = height >= 26 and width >= 76
        timeline = lanes + 3 + legend if lanes and width >= 50 and height >= 16 else 0
        body = height - len(lines) - timeline - (not wide)
        if not wide:
            lines.append(self.figures_line(width))
        if body >= 3:
            left = width - min(max(COLUMN, width // 3), width // 2 - 2, 60) if wide else width
            conversation = panel("conversation", self.conversation(left - 4, body - 2), left, body)
            lines += beside(conversation, self.column(width - left, body)) if wide else conversation
        if timeline:
            lines += self.timeline(width, timeline, legend=legend)
        return [fitted(line, width) for line in lines[:height]]

    def header(self, width: int, *, full: bool) -> list[Text]:
        """Which question is being answered, how, and how far it has got."""
        tally, now, scenario = self.tally, self.tally.current, self.setup.scenario
        if now.policy == "target_only" and tally.expected == 2:
            what = "target alone first"
        else:
            what = described(scenario.policy.model_dump(), "name")
        left = Text.assemble((" hilsim ", f"bold {GOOD} reverse"), " ", (clean(scenario.name), "bold"), "  ", what)
        lines = [spread(left, Text(f"simulated {duration_of_ns(now.now_ns)} ", "bold"), width)]
        if full and scenario.question:
            lines.append(fitted(Text(f" {clean(scenario.question)}", "italic"), width))
        count = self.count()
        if tally.expected == 2 and width >= 70:
            count += f", pass {len(tally.passes)} of 2"
        room = max(4, width - len(count) - 2)
        done = round(tally.progress * room)
        lines.append(Text.assemble(" ", ("━" * done, GOOD), ("─" * (room - done), FRAME), count))
        return lines

    def count(self) -> str:
        """How many answers there are."""
        now = self.tally.current
        if self.setup.scenario.trip is not None:  # it ends by the clock, whatever is left of the workload
            return f" {len(now.outcomes)} answers, {now.requests} in workload"
        return f" {len(now.outcomes)} of {now.requests} answers"

    def conversation(self, width: int, height: int) -> list[Text]:
        """The last exchanges, with drafted tokens coloured apart from the target's own, and a legend."""
        foot = [self.legend(width)] if height >= 6 else []
        lines: list[Text] = []
        newer: Exchange | None = None
        for exchange in reversed(self.tally.exchanges):
            apart = newer is not None and newer.conversation != exchange.conversation
            rule = [Text("╌" * width, FRAME)] if apart else []
            lines = [*self.wrapped(exchange, width), *rule, *lines]
            newer = exchange
            if len(lines) >= height - len(foot):
                break
        lines = lines[-(height - len(foot)) :] if height > len(foot) else []
        return [*lines, *[Text()] * (height - len(foot) - len(lines)), *foot]

    def legend(self, width: int) -> Text:
        """The colours of drafted tokens and of the target's own."""
        target = self.setup.target.chip.name
        if self.setup.draft is None or self.tally.current.policy == "target_only":
            return Text.assemble(("every token is the target's own", TARGET), (f" ({target})", FRAME))
        draft = f" by {self.setup.draft.chip.name}" if width >= 64 else ""
        return Text.assemble((f"drafted{draft} and accepted", DRAFT), "  ", ("the target's own", OWN))

    def wrapped(self, exchange: Exchange, width: int) -> list[Text]:
        """One exchange as lines with a name in front; cached once the answer is over."""
        known = self._wrapped.get(exchange)
        if known is not None and known[0] == (width, exchange.passenger):
            return known[1]
        alone = self.tally.current.policy == "target_only"
        answer = Text()
        for text, drafted in self.tally.runs(exchange):
            plain = clean(text)
            core = plain.lstrip(" ")
            answer.append(plain[: len(plain) - len(core)])
            answer.append(core, DRAFT if drafted else TARGET if alone else OWN)
        if exchange.finished_ns is None:
            answer.append("▌", "bold")
        elif width >= 60:
            answer.append(f"  {duration_of_ns(exchange.finished_ns - exchange.arrived_ns)}", FRAME)
        lines: list[Text] = []
        named = f"{shortened(clean(exchange.passenger), 9) or 'passenger':<10}"
        names = (named, "assistant ") if width >= 40 else ("you ", "car ")
        for name, message in zip(names, (Text(clean(exchange.user)), answer), strict=True):
            if not message.plain.strip():
                continue
            room = max(1, width - len(name))
            for row, part in enumerate(message.wrap(self.console, room, tab_size=1)):
                part.rstrip()
                lines.append(Text.assemble((name if row == 0 else " " * len(name), "bold" if row == 0 else ""), part))
        if exchange.finished_ns is not None:
            self._wrapped[exchange] = (width, exchange.passenger), lines
        return lines

    def column(self, width: int, height: int) -> list[Text]:
        """The right column: speculation's figures, then memory where there is room for both."""
        memory = self.memory(width - 4, full=height >= 20)
        top = height - len(memory) - 2
        if top < 8:
            return panel("so far", self.figures(width - 4, height - 2), width, height)
        figures = panel("so far", self.figures(width - 4, top - 2), width, top)
        return figures + panel("memory", memory, width, len(memory) + 2)

    def figures(self, width: int, height: int) -> list[Text]:
        """Speed-up, first clause, tokens a round, acceptance by position in the draft."""
        now, tally = self.tally.current, self.tally
        lines: list[Text] = []

        def figure(name: str, value: Text | str, aside: str = "") -> None:
            value = Text(value, "bold") if isinstance(value, str) else value
            line = Text.assemble(f"{name:<13}", value, " " * max(1, 8 - value.cell_len))
            lines.append(line.append(aside if line.cell_len + len(aside) <= width else "", FRAME))

        if tally.expected == 2:
            figure("speed-up", *self.speedup_text())
        clause = tally.first_clause_ns(now)
        if clause is not None:
            alone = None if tally.alone is None else tally.first_clause_ns(tally.alone)
            aside = "" if alone is None else f"alone {duration_of_ns(alone)}"
            figure("first clause", duration_of_ns(clause), aside)
        if now.active_ns:
            figure("tokens/s", f"{now.emitted * NS_PER_S / now.active_ns:.1f}", "while answering")
        if now.drafts:
            by_place = now.acceptance()
            figure("tokens/round", f"{now.tokens_per_round:.2f}", f"at most {len(by_place) + 1}")
            figure("accepted", percent(now.accepted / now.drafted), f"{now.accepted} of {now.drafted}")
            room = height - len(lines)
            if len(by_place) > room:
                shares = " ".join(f"{100 * share:.0f}" for share in by_place)
                lines.append(Text(shortened(f"{'by position':<13}{shares}", width - 2) + " %"))
                by_place = []
            for place, share in enumerate(by_place):
                name = f"{'position' if place == 0 else '':<9}{place + 1:>3} "
                line = Text(name).append_text(bar(share, max(4, width - len(name) - 6), DRAFT))
                lines.append(line.append(f"{percent(share):>6}"))
        return lines

    def speedup_text(self) -> tuple[Text, str]:
        """The running speed-up, coloured by which side of 1 it is on."""
        speedup = self.tally.speedup
        if speedup is None:
            return Text("–"), "in pass 2" if self.tally.alone is None else "soon"
        return Text(f"{speedup:.2f}x", f"bold {GOOD if speedup >= 1 else BAD}"), "over target alone"

    def figures_line(self, width: int) -> Text:
        """All figures that fit into one line."""
        now = self.tally.current
        figures = [self.speedup_text()[0].append(" speed-up")] if self.tally.speedup is not None else []
        if now.active_ns and not figures:
            figures = [Text(f"{now.emitted * NS_PER_S / now.active_ns:.1f} tokens/s")]
        if now.drafts:
            figures.append(Text(f"{now.tokens_per_round:.2f} tokens/round"))
            figures.append(Text(f"{percent(now.accepted / now.drafted)} accepted"))
        line = Text(" ")
        for figure in figures:
            if line.cell_len + figure.cell_len + 3 <= width:
                line.append_text(Text(" · ", FRAME) if line.cell_len > 1 else Text()).append_text(figure)
        return line

    def memory(self, width: int, *, full: bool) -> list[Text]:
        """Each chip's memory against its cap, by what lies in it; a line a chip unless there is room for more."""
        lines = []
        column = max(map(len, self.ledgers), default=0) + 1
        for name, ledger in self.ledgers.items():
            amount = f"{gibibytes(ledger.used_bytes)} of {gibibytes(ledger.cap_bytes)} GiB"
            if full:
                lines += [spread(Text(name), Text(amount), width), self.stack(ledger, width)]
            else:
                line = Text(f"{name:<{column}}").append_text(self.stack(ledger, max(4, width - column - 6)))
                lines.append(line.append(f"{percent(ledger.ratio):>6}"))
        if full and self.colour:
            legend = Text(" " if len("".join(PARTS)) + 2 * len(PARTS) - 1 <= width else "").join(
                Text.assemble(("█", style), (part, FRAME)) for part, style in PARTS.items()
            )
            lines.append(legend)
        return lines

    @staticmethod
    def stack(ledger: Ledger, width: int) -> Text:
        """A ledger as one bar, its parts in their colours, up to the cap."""
        row, drawn, used = Text(), 0, 0
        for part, size in parts_of(ledger).items():
            used += size
            until = min(width, round(used / ledger.cap_bytes * width))
            row.append("█" * (until - drawn), PARTS[part] if ledger.fits else BAD)
            drawn = max(drawn, until)
        return row.append("·" * (width - drawn), FRAME)

    def timeline(self, width: int, height: int, *, legend: bool) -> list[Text]:
        """The last rounds on both chips and the link."""
        now, tally = self.tally.current, self.tally
        mean = now.length_ns / now.rounds if now.rounds else 300 * NS_PER_MS
        length = nice_step(3 * mean / NS_PER_MS) * NS_PER_MS
        roles = [role_of(self.setup, track) for track in now.tracks]
        column = max(map(len, roles), default=0) + 1
        names = [""] * len(roles)
        if width >= 96:
            names = [track.removesuffix(".up").removesuffix(".down") for track in now.tracks]
            column += max(map(len, names)) + 1
        # Other work goes on beside the answers: with company a share is of the run, as in the report.
        company = self.setup.scenario.company
        whole = now.now_ns if company else now.active_ns
        window = Window(now.now_ns - length, now.now_ns, max(8, width - 4 - column - 6))
        lines = []
        for track, role, name in zip(now.tracks, roles, names, strict=True):
            arrow = role[-1] if role.startswith("link") else ""
            busy = percent(min(1.0, now.busy_ns.get(track, 0) / whole)) if whole else "–"
            line = Text.assemble(f"{role:<{max(map(len, roles))}} ", (f"{name} " if name else "", FRAME))
            line = fitted(line, column)
            line.append_text(lane(tally.recent(track, window.start_ns), window, colour=self.colour, arrow=arrow))
            lines.append(line.append(f"{busy:>6}"))
        foot = Text(f"{'ms':>{column - 1}} ", FRAME)
        lines.append(foot.append_text(axis(window)).append("of run" if company else "  busy", FRAME))
        if legend:
            lines.append(Text(" " * column).append_text(self.kinds_line()))
        return panel(f"the last {length // NS_PER_MS} ms", lines, width, height)

    def kinds_line(self) -> Text:
        """What the colours, or the letters, of the timeline mean."""
        line = Text()
        for name, kind in KINDS.items():
            if kind.message or (self.tally.expected == 1 and name not in ("prefill", "decode")):
                continue
            if name in SPOKEN and name not in self.tally.kinds:
                continue
            if name == "fault" and not self.setup.backends and not self.setup.fails:
                continue
            if name in ("wake", "switch") and not any(between_of(part.unit).costs for part in self.setup.parts):
                continue
            mark = ("█", kind.colour) if self.colour else (kind.letter, "")
            line.append_text(Text.assemble(mark, (f" {name.replace('_', ' ')}  ", FRAME)))
        if self.tally.expected == 2 and self.setup.link is not None:
            line.append_text(Text.assemble(("▸", DRAFT), (" drafts  ", FRAME), ("◂", TARGET), (" verdict", FRAME)))
        return line
