"""A command line that works for every command that the parser knows, small enough for a test, and writing what it can.

A command that is not listed gets what its parser requires, so that a new one takes part by itself; where that is no
line that works, tests fail until it has one here.
"""

from __future__ import annotations

import random
from pathlib import Path

from hilsim.places import CODE as PROJECT
from tests.campaigns import DROP, write_campaign
from tests.fuzz.command_lines import parsers, words_of
from tests.scenes import LINK, TABLE
from tests.studies import write_study

ENGINE = f"{PROJECT}/tests/fake_engines.py:Chain"
EXAMPLE = f"{PROJECT}/chips/measurements/example.csv"
IMPORTS = f"{PROJECT}/tests/fidelity/imports"
LOG = f"{IMPORTS}/edge_llm.json"
PAIR = "eagle-llama-3.1-8b/sharegpt"
LINES: dict[tuple[str, ...], str] = {
    ("simulate",): "table.yaml --set workload.requests=300 --out out --trace trace.json",
    ("check",): "--module hilsim.networks.intent:matcher --chip sa8295p --write out",
    ("record",): "orin_8295_greedy --out transcript.npz",
    ("explore",): "orin_8295_greedy --workers 2 --out out --csv all.csv",
    ("study",): "small/small.yaml --allow-code --workers 2 --out out --csv points.csv --plot points.png",
    ("campaign",): "met/small.yaml --workers 2 --out out --csv runs.csv --plot runs.png",
    ("quality",): "orin_8295 --conversations 2 --dialogues 1 --csv quality.csv --plot quality.svg",
    ("new",): "scenario mine --like orin_8295 --out mine.yaml",
    ("explain",): "draft_tokens",
    ("agent",): f"--model toy={PROJECT}/LICENSE --engine {ENGINE} --allow-code --listen 127.0.0.1:0",
    ("link-end",): "--listen 127.0.0.1:0 --peer-listen 127.0.0.1:0",
    ("profile",): "tcp://127.0.0.1:9 --out board.jsonl",
    ("train",): f"--quick --corpus {PROJECT}/models/corpus --out out",
    ("card",): f"--models {PROJECT}/models --dialogues 1",
    ("import",): f"{IMPORTS}/perf.yaml --device sa8295p --out figures.csv",
    ("validate",): f"--csv {EXAMPLE} --leave-out --plot scatter.png",
    ("calibrate",): f"{EXAMPLE} --chip orin-nx-16gb --out my-orin.yaml",
    ("chip",): "sa8295p --model llama-3.2-1b",
    ("measure-first",): "eagle_8775 --draws 50 --csv first.csv",
    ("acceptance", "show"): PAIR,
    ("acceptance", "compare"): PAIR,
    ("acceptance", "convert"): f"{PAIR} --title A --text B --out mine.yaml",
    ("acceptance", "export"): "trip --out profile.json",
    ("acceptance", "transfer"): "orin_8295_greedy --csv transfer.csv",
    ("serve",): "table.yaml --port 0",
    ("modes",): f"eagle_8775 --acceptance {PAIR} --csv modes.csv --plot modes.svg",
}
# What takes long however small: it is ended by signals, and not waited for.
LONG = (("train",), ("card",), ("validate",), ("explore",), ("acceptance", "transfer"), ("quality",))
ENDLESS = (("agent",), ("link-end",), ("serve",))  # they serve until a signal comes
UNANSWERED = (("profile",),)  # no agent listens where they look for one: they say so, having read all of their line


def furnished(folder: Path) -> Path:
    """A folder with the files that the lines name."""
    folder.mkdir(parents=True)
    (folder / "link.yaml").write_text(LINK)
    (folder / "table.yaml").write_text(TABLE.replace("LINK", "link.yaml"))
    write_study(folder / "small")
    write_campaign(folder / "met", faults=[DROP])
    return folder


def line_of(command: tuple[str, ...]) -> list[str]:
    """The words of a command line that works."""
    if command in LINES:
        return [*command, *LINES[command].split()]
    words = words_of(command, random.Random(1), share=0)
    names = {
        "SCENARIO": "table.yaml",
        "STUDY": "small/small.yaml",
        "CAMPAIGN": "met/small.yaml",
        "FIGURES": EXAMPLE,
        "OUT": "out",
    }
    for name, place in names.items():
        words = [word.replace(name, place) for word in words]
    return words


COMMANDS = sorted(parsers())
