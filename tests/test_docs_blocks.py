"""Blocks of YAML and JSON in docs/ are what hilsim reads, and its table of errors is what `validate` finds.

Blocks of commands and Python have tests of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.conversation import read_conversations
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.fidelity.from_file import validate
from hilsim.places import CODE as PROJECT
from hilsim.show.fidelity import as_json

DOCS, SCENARIOS = PROJECT / "docs", PROJECT / "scenarios"
# A page's block of a scenario is read on top of a shipped one.
BASES = {"policies.md": "orin_8295_greedy", "compile.md": "orin_8295_greedy", "conversations.md": "paper_table"}
# Blocks that tests of their own read: the campaign and the model below, a tutorial, logs, and what a board answers.
ELSEWHERE = {"campaign.md", "quantisation.md", "tutorials/compile.md", "logs.md"}


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page that are marked with a language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def pages_with(*languages: str) -> Iterator[str]:
    """The pages that have blocks of some languages."""
    for file in sorted(DOCS.rglob("*.md")):
        page = file.relative_to(DOCS).as_posix()
        if any(blocks(page, language) for language in languages):
            yield page


def test_every_page_with_such_blocks_is_read_by_a_test() -> None:
    assert set(pages_with("yaml", "json")) == {*BASES, *ELSEWHERE}


@pytest.mark.parametrize("page", BASES)
def test_blocks_of_a_scenario_are_accepted_by_one(page: str) -> None:
    for block in blocks(page, "yaml"):
        sections = yaml.safe_load(block)
        values = {
            f"{name}.{key}" if name == "target" else name: inner
            for name, section in sections.items()
            for key, inner in (section.items() if name == "target" else [(name, section)])
        }
        load_setup(SCENARIOS / f"{BASES[page]}.yaml", [f"{name}={json.dumps(value)}" for name, value in values.items()])


def test_the_conversations_are_read(tmp_path: Path) -> None:
    [lines] = blocks("conversations.md", "json")
    file = tmp_path / "mine.jsonl"
    file.write_text(lines, encoding="utf-8")
    assert [len(one.turns) for one in read_conversations(file, None, None)] == [2, 1]


def test_the_campaign_is_one(tmp_path: Path) -> None:
    [block] = blocks("campaign.md", "yaml")
    file = tmp_path / "drops.yaml"
    file.write_text(block.replace("orin_8295_greedy.yaml", str(SCENARIOS / "orin_8295_greedy.yaml")), encoding="utf-8")
    assert load_campaign(file).campaign.name == "drops"


def test_a_models_quality_is_one() -> None:
    [block] = blocks("quantisation.md", "yaml")
    shipped = yaml.safe_load((PROJECT / "models" / "llama-3.1-8b.yaml").read_text(encoding="utf-8"))
    assert Model.model_validate(shipped | yaml.safe_load(block)).quality


CLASSES = {"Orin": "NVIDIA Orin", "Thor": "NVIDIA Thor", "Qualcomm phone and laptop": "Qualcomm phone or laptop"}
KINDS = {"decode": "decode", "prompts": "prefill"}


def test_the_errors_in_docs_accuracy_are_those_of_validate() -> None:
    """Mean absolute errors in whole percent, and of networks the medians."""
    summaries = as_json(validate())["summaries"]
    text = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    table = text.partition("| class | rows |")[2].partition("\n\n")[0].splitlines()[2:]
    seen = set()
    for line in table:
        name, rows, *errors = (cell.strip() for cell in line.strip("|").split("|"))
        device, _, kind = name.partition(", ")
        label = f"{CLASSES.get(device, device)} {KINDS[kind]}" if kind else "networks"
        found = summaries[label]["all"]
        assert int(rows) == found[0]["rows"]
        for written, of in zip(errors[:3], found, strict=True):
            mean, *median = map(int, re.findall(r"\d+", written))
            assert mean == round(100 * of["mean"]), (name, written)
            assert not median or median == [round(100 * of["median"])]
        seen.add(label)
    assert seen == set(summaries)
