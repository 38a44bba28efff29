"""What units cost between passes and at the start, as the chip's card, the check and the report show it."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.model import Model
from hilsim.places import DATA
from hilsim.show.check import checked
from hilsim.show.chip_card import sections
from hilsim.show.document import document
from hilsim.show.report import render
from tests.scenes import between_passes, both, shipped

HERE = DATA / "chips" / "_.yaml"
SYNTHETIC = (
    "networks=[]", "logits={source: synthetic, acceptance: 0.9}",
    "workload={requests: 2, prompt_tokens: 20, output_tokens: 12}",
)  # fmt: skip


def card(chip: str) -> str:
    return "\n".join(sections(load_chip(chip, HERE), load_named("model", Model, "qwen3-0.6b", HERE), 1152, None))


def test_a_card_has_it_of_chips_that_say_it() -> None:
    assert "sa8797p is ready 2.06 (1.76 to 2.84) s after a cold start, in which it reads 0.907 GB" in card("sa8797p")
    assert "between passes, ms: switch of the graph 86, waking up 17.65" in card("sa8797p")
    assert "cold start" not in card("sa8775p")
    assert "between passes" not in card("sa8295p")


def test_a_check_names_the_chips_that_do_not_say_it() -> None:
    found = checked(
        shipped(
            "swapped",
            *SYNTHETIC,
            "draft.chip=sa8797p",
            "draft.unit=npu",
            "draft.precision=w8a16",
            "application=sa8797p",
        )
    )
    assert "Start: sa8797p is ready" in str(found)
    assert "agx-orin-64gb: its file has no figure of it" in str(found)
    assert found.report["start_up"][0]["chip"] == "sa8797p"
    silent = checked(shipped("ssd_8elite", *SYNTHETIC))
    assert "Start:" not in str(silent)
    assert "start_up" not in silent.report


def test_a_report_has_switches_of_each_unit_and_their_share_of_waiting() -> None:
    setup = between_passes(shipped("orin_8295_greedy", *SYNTHETIC), 86, 17, 100)
    text = StringIO()
    render(document(setup, {}, *both(setup)), Console(file=text, width=110, force_terminal=False))
    shown = " ".join(text.getvalue().split())
    assert "sa8295p.npu switches 4: 344 ms" in shown
    assert "sa8295p.npu wakes" in shown
    assert "between_passes" in shown
