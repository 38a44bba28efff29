"""The dashboard of a scenario with company, as drawn in docs/cockpit_dashboard.md.

First who asked and how soon the first audio came, at which stage; then the chips; then words; then the timeline. Where
there is little room the timeline goes first, then the chips; the conversation takes what is left.
"""

from __future__ import annotations

from itertools import zip_longest

from rich.text import Text

from hilsim.cost.sharing import capacity
from hilsim.describe.cockpit import STAGES, Budget
from hilsim.measure.turns import times_of
from hilsim.show.kinds import BAD, GOOD, STAGE_KINDS, TARGET
from hilsim.show.numbers import clean, counted, duration, duration_of_ns, percent, shortened
from hilsim.show.terminal.company import PassengerTurns
from hilsim.show.terminal.layout import Layout
from hilsim.show.terminal.paint import FRAME, bar, beside, fitted, panel, spread
from hilsim.units import ms

NAMED = 14  # cells of a name


class CockpitLayout(Layout):
    """Draws a tally with company. Lines come out exactly as wide and as many as requested."""

    def frame(self, width: int, height: int) -> list[Text]:
        """The whole screen."""
        lines = self.header(width, full=height >= 30)
        if width < 50 or height < 14:
            return [fitted(line, width) for line in [*lines, *self.passengers(width), *self.stages(width)][:height]]
        wide = width >= 150
        rest = height - len(lines)
        lanes = len(self.tally.current.tracks)
        legend = height >= 34 and width >= 76
        timeline = lanes + 3 + legend if lanes and height >= 24 else 0
        if wide:
            columns = (width - 2 * 54, 54, 54)
            top = max(map(len, (self.passengers(80), self.stages(50), self.chips(50)))) + 2
            top = min(top, max(5, rest - timeline - 5))
            panels = self.panels(columns, top)
            lines += beside(beside(panels[0], panels[1]), panels[2])
            lines += self.spoken(width, rest - top - timeline)
        elif width >= 100:
            lines += self.two_columns(width, rest - timeline)
        else:
            lines += self.stacked(width, rest, timeline)
            timeline = 0
        if timeline:
            lines += self.timeline(width, timeline, legend=legend)
        return [fitted(line, width) for line in lines[:height]]

    def panels(self, columns: tuple[int, int, int], height: int) -> list[list[Text]]:
        """Passengers, stages and chips side by side."""
        contents = (self.passengers(columns[0] - 4), self.stages(columns[1] - 4), self.chips(columns[2] - 4))
        titles = ("passengers: last turn until first audio", self.stages_title(columns[1]), "chips")
        return [
            panel(title, lines, width, height) for title, lines, width in zip(titles, contents, columns, strict=True)
        ]

    def two_columns(self, width: int, height: int) -> list[Text]:
        """Passengers over the conversation, beside stages over chips."""
        right = 48
        left = width - right
        mine = panel(
            "passengers: last turn until first audio",
            self.passengers(left - 4),
            left,
            min(len(self.passengers(left - 4)) + 2, height - 4),
        )
        mine += self.spoken(left, height - len(mine))
        theirs: list[Text] = []
        for title, lines in (
            (self.stages_title(right), self.stages(right - 4)),
            ("chips", self.chips(right - 4)),
            ("memory", self.memory(right - 4, full=False)),
        ):
            room = min(len(lines) + 2, height - len(theirs))
            if room >= 3:
                theirs += panel(title, lines, right, room)
        return beside(mine, theirs + [Text(" " * right)] * (height - len(theirs)))

    def stacked(self, width: int, height: int, timeline: int) -> list[Text]:
        """Passengers beside stages, then chips, conversation and timeline, as far as they fit."""
        left, right = width // 2, width - width // 2
        who, stages, chips = self.passengers(left - 4), self.stages(right - 4), self.chips_in_lines(width - 4)
        top = min(max(len(who), len(stages)) + 2, height)
        mine = panel("passengers: last turn", who, left, top)
        lines = beside(mine, panel(self.stages_title(right), stages, right, top))
        left_over = height - top
        if left_over >= len(chips) + 2:
            lines += panel("chips", chips, width, len(chips) + 2)
            left_over -= len(chips) + 2
        if timeline and left_over >= timeline + 3:
            lines += self.spoken(width, left_over - timeline)
            return lines + self.timeline(width, timeline, legend=False)
        return lines + self.spoken(width, left_over)

    def count(self) -> str:
        """How many turns there were, and how many were not answered."""
        turns = self.tally.company.turns
        found = f" {counted(len(turns), 'turn')}"
        for outcome in ("interrupted", "refused", "given up"):
            if number := sum(turn.outcome == outcome for turn in turns):
                found += f", {number} {outcome}"
        return found

    def spoken(self, width: int, height: int) -> list[Text]:
        """The conversation in its panel; nothing where there is no room."""
        if height < 3:
            return [Text(" " * width)] * max(0, height)
        return panel("conversation", self.conversation(width - 4, height - 2), width, height)

    @property
    def budget(self) -> Budget:
        """The limits of the scenario; none are set without a spoken turn."""
        speech = self.setup.scenario.speech
        return Budget() if speech is None else speech.budget

    def passengers(self, width: int) -> list[Text]:
        """A line a passenger: turns, the stages of the last one as a strip, and its first audio."""
        by_name = self.tally.company.passengers
        limit = self.budget.first_audio_ms
        waits = [times_of(one.last).get("first_audio", 0) for one in by_name.values() if one.last is not None]
        scale_ms = max([ms(wait) for wait in waits] + ([limit] if limit else []) + [1.0])
        return [self.passenger(name, one, width, scale_ms) for name, one in by_name.items()]

    def passenger(self, name: str, one: PassengerTurns, width: int, scale_ms: float) -> Text:
        """The line of one."""
        named = 10 if width < 50 else NAMED
        outcomes = ((one.refused, "refused"), (one.given_up, "given up"))
        lost = "".join(f" {number} {what}" for number, what in outcomes if number)
        line = Text(f"{shortened(clean(name), named - 1):<{named}}{one.turns:>3}  ")
        value, style = Text("–"), ""
        strip = Text()
        room = max(1, width - line.cell_len - 10 - (len(lost) if width >= 60 else 0))
        if one.last is not None:
            times = times_of(one.last)
            if "first_audio" in times:
                limit = self.budget.first_audio_ms
                over = limit is not None and ms(times["first_audio"]) > limit
                value, style = Text(duration_of_ns(times["first_audio"]) + (" !" if over else "")), BAD if over else ""
                strip = self.strip(times, room, scale_ms)
            else:
                value, style = Text(one.last.outcome), BAD
        line.append_text(fitted(strip, room)).append(lost if width >= 60 else "", BAD)
        return line.append(f"{value.plain:>10}", style)

    def strip(self, times: dict[str, int], room: int, scale_ms: float) -> Text:
        """The stages of one turn as neighbouring blocks, in their colours or letters."""
        line, so_far, drawn = Text(), 0.0, 0
        for name in STAGES:
            so_far += ms(times.get(name, 0))
            until = round(min(1.0, so_far / scale_ms) * room)
            kind = STAGE_KINDS[name]
            line.append(("█" if self.colour else kind.letter) * (until - drawn), kind.colour if self.colour else "")
            drawn = max(drawn, until)
        return line

    def stages_title(self, width: int) -> str:
        """The first audio at the budget's percentile, and its limit."""
        value, limit = self.tally.company.at_percentile(self.budget)["first_audio"]
        if not self.tally.company.turns:
            return "first audio"
        found = "never" if value is None else duration(value)
        of = "" if limit is None else f" of {duration(limit)}"
        title = f"first audio {found}{of}, p{self.budget.percentile}"
        return title if len(title) + 6 <= width else f"first audio {found}"

    def stages(self, width: int) -> list[Text]:
        """A bar a stage at the budget's percentile, with its limit; then gaps and reaction where there are any."""
        found = self.tally.company.at_percentile(self.budget)
        scale = max([1.0, *(number for name in STAGES for number in found[name] if number is not None)])
        lines = []
        for name in (*STAGES, "gap", "reaction"):
            value, limit = found[name]
            if value is None and (limit is None or name not in STAGES):
                continue
            if name == "gap" and not value and limit is None:
                continue
            lines.append(self.stage(name, value, limit, scale, width))
        return lines or [Text("no turn is over", FRAME)]

    def stage(self, name: str, value: float | None, limit: float | None, scale: float, width: int) -> Text:
        """The line of one."""
        over = value is not None and limit is not None and value > limit
        number = "–" if value is None else duration(value) + (" !" if over else "")
        allowed = "" if limit is None else f" / {limit:.0f}"
        room = max(3, width - NAMED - 10 - 8)
        line = Text(f"{name.replace('_', ' '):<{NAMED}}")
        blocks = fitted(bar((value or 0) / scale, room, BAD if over else self.stage_colour(name), empty=" "), room)
        if limit is not None:
            place = min(room - 1, int(limit / scale * room))
            blocks = Text.assemble(blocks[:place], ("│", FRAME), blocks[place + 1 :])
        return line.append_text(blocks).append(f"{number:>10}", BAD if over else "").append(f"{allowed:<8}", FRAME)

    @staticmethod
    def stage_colour(name: str) -> str:
        """Its colour; that of good news for what is no stage."""
        return STAGE_KINDS[name].colour if name in STAGE_KINDS else GOOD

    def chips(self, width: int) -> list[Text]:
        """Two lines a chip: memory rate, temperature and clock; then missed deadlines."""
        lines: list[Text] = []
        for chip in self.setup.chips:
            rows = [row for row in (self.memory_rate(chip), self.warmth(chip)) if row is not None]
            for place, (share, text, style) in enumerate(rows):
                name = shortened(chip, NAMED - 1) if place == 0 else ""
                room = max(4, width - NAMED - 20)
                line = Text(f"{name:<{NAMED}}").append_text(bar(share, room, style))
                lines.append(spread(line, Text(text, style if style == BAD else ""), width))
        return lines + self.missed(width)

    def chips_in_lines(self, width: int) -> list[Text]:
        """A line a chip, then missed deadlines."""
        lines = []
        for chip in self.setup.chips:
            line = Text(f"{shortened(chip, NAMED - 1):<{NAMED}}")
            rows = list(filter(None, (self.memory_rate(chip), self.warmth(chip))))
            for share, text, style in rows:
                line.append_text(bar(share, 10, style)).append(f" {text:<18} ", style if style == BAD else "")
            if rows:
                lines.append(line)
        return lines + self.missed(width)

    def memory_rate(self, chip: str) -> tuple[float, str, str] | None:
        """Share, words and colour of what goes through a chip's memory; None where nothing was sampled."""
        average = self.tally.company.memory.get(chip)
        if average is None:
            return None
        most, now = capacity(self.setup.chips[chip]), average.until(self.tally.current.now_ns)
        return now / most, f"{now / 1e9:.0f} of {most / 1e9:.0f} GB/s", TARGET

    def warmth(self, chip: str) -> tuple[float, str, str] | None:
        """Words and colour of a chip's hottest node and slowest clock; None where nothing was sampled.

        The share is that of the way from the ambient air to where the chip shuts down.
        """
        nodes, clocks = (self.tally.company.values(chip, what) for what in ("temperature", "clock"))
        if not nodes:
            return None
        clock = min(clocks, default=1.0)
        words = f"{max(nodes):.0f} °C, " + ("full clock" if clock >= 1 else f"clock {percent(clock)}")
        climate = self.setup.scenario.climate
        thermal = self.setup.chips[chip].thermal
        if climate is None or thermal is None:
            return None
        share = (max(nodes) - climate.ambient_c) / (thermal.critical.si - climate.ambient_c)
        return share, words, BAD if clock < 1 else GOOD

    def missed(self, width: int) -> list[Text]:
        """Missed deadlines of the background, as many tasks a line as fit."""
        missed = self.tally.company.missed()
        tasks = [task.name for task in self.setup.scenario.background]
        if not tasks:
            return []
        line, lines = Text("missed: ", FRAME), []
        for name, comma in zip_longest(tasks, [", "] * (len(tasks) - 1), fillvalue=""):
            number = missed.get(name, 0)
            bit = Text(f"{clean(name)} {number:,}{comma}", BAD if number else "")
            if line.cell_len + bit.cell_len > width and line.cell_len > 8:
                lines.append(line)
                line = Text(" " * 8)
            line.append_text(bit)
        return [*lines, line]
