"""Broken measurements, llama-bench output, step logs and acceptances by the hundred: each is read or refused."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from hilsim.describe.complaints import validated
from hilsim.describe.figure import Record
from hilsim.describe.scenario import Synthetic
from hilsim.describe.strict_yaml import parse
from hilsim.fidelity.cases import resolve
from hilsim.fidelity.doubts import doubtful_rows, doubtful_steps
from hilsim.fidelity.from_file import families
from hilsim.fidelity.imported import import_logs
from hilsim.fidelity.measurements import read_figures
from hilsim.fidelity.step_log import read_log
from hilsim.fidelity.two_device import replay
from hilsim.files import read_text
from hilsim.places import CODE as PROJECT
from hilsim.sources.luck import Spot, luck_by
from tests.fidelity.test_doubts import GREEDY, SECONDS
from tests.fidelity.test_importers import EXAMPLES, IMPORTS
from tests.fidelity.test_tables import BENCH, DECODE
from tests.mutations import ODDITIES, changed_bytes, changed_tree, json_bytes, survive
from tests.tiny import ROW

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

EACH = 300
PREFILL = {"model": "other", "kind": "llm_prefill", "context_len": "512", "metric": "ttft_ms", "value": "600"}
VISION = {"kind": "vision", "metric": "latency_ms", "weight_bits": "8", "act_bits": "8", "gmacs": "3", "value": "9"}


def table(rows: list[dict[str, Any]], chance: random.Random) -> str:
    """Rows as a CSV, in a separator of chance."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=chance.choice(",;\t"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def with_odd_cells(rows: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """Rows of which some cells are oddities, or numbers close to what they were."""
    rows = [dict(row) for row in rows]
    for _ in range(chance.choice((1, 1, 2, 5))):
        row = chance.choice(rows)
        column = chance.choice(list(row))
        near = (f"{row[column]}0", f"-{row[column]}", f"{row[column]},5", f"{row[column]}e9", f"{row[column]} x")
        odd = chance.choice((*near, *(str(oddity) for oddity in ODDITIES)))
        row[column] = odd.replace("\ud800", "?")
    return rows


def measure(path: Path) -> None:
    """Read figures, find what they are of, predict and doubt them, as `validate` does before its fits."""
    figures = read_figures(path, "orin-nx-16gb" if path.suffix == ".rig" else None)
    cases, _, _ = resolve(figures.rows)
    doubtful_rows(cases, families())


def test_no_broken_table_of_figures_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(20_261_129)
    rows = [
        ROW,
        ROW | PREFILL,
        ROW | VISION,
        ROW | {"kind": "spec_decode", "note": "vanilla 20, tokens per verify step 3"},
    ]
    inputs = []
    for number in range(EACH):
        text = table(rows if number % 2 else with_odd_cells(rows, chance), chance)
        data = text.encode(chance.choice(("utf-8", "utf-8-sig", "utf-16")))
        inputs.append((f"{number}.csv", changed_bytes(data, chance) if number % 2 else data))
    survive(measure, inputs, tmp_path, accepted=range(30, 270))


def test_no_broken_output_of_llama_bench_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(20_261_130)
    records = [BENCH, BENCH | DECODE, BENCH | DECODE | {"n_depth": 512}]
    plain = [{key: value for key, value in record.items() if key != "samples_ts"} for record in records]
    inputs = []
    for number in range(EACH):
        match number % 3:
            case 0:
                data = table(with_odd_cells(plain, chance), chance).encode()
            case 1:
                data = changed_bytes(table(plain, chance).encode(), chance)
            case _:
                data = json_bytes(changed_tree(records, chance))
        inputs.append((f"{number}.rig", data))
    survive(measure, inputs, tmp_path, accepted=range(30, 290))


def take(path: Path) -> None:
    """Import a log whose name ends with that of an example."""
    import_logs([path], EXAMPLES[path.name.partition(" ")[2]][1])


def test_no_broken_log_of_a_tool_breaks_the_program(tmp_path: Path) -> None:
    """Each example with bytes changed, and the JSON ones with oddities in their values: imported whole or refused."""
    chance = random.Random(20_261_130)
    inputs = []
    for number in range(2 * EACH):
        name = list(EXAMPLES)[number % len(EXAMPLES)]
        data = (IMPORTS / name).read_bytes()
        if name.endswith(".json") and number % 3:
            data = json_bytes(changed_tree(json.loads(data), chance))
        else:
            data = changed_bytes(data, chance)
        inputs.append((f"{number} {name}", data))
    survive(take, inputs, tmp_path, accepted=range(30, 570))


def replay_log(path: Path) -> None:
    """Read, doubt, replay and predict a log."""
    prompts = read_log(path)
    doubtful_steps(prompts, path)
    for runs in prompts:
        if runs.sync is not None:
            replay(runs, path)


def test_no_broken_step_log_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(20_261_131)
    long = [
        {"sample_index": 0, "strategy": "sd", "metrics": SECONDS | {"tokens_generated": 10, "unit": "s"}},
        {"sample_index": 0, "strategy": "greedy", "metrics": GREEDY},
        {"sample_index": 0, "strategy": "amusd", "metrics": SECONDS | {"tokens_generated": 10}},
    ]
    inputs = []
    for number in range(EACH):
        document = (SECONDS | {"unit": "ms"}, long)[number % 2]
        data = (
            json_bytes(changed_tree(document, chance))
            if number % 3
            else changed_bytes(json.dumps(long).encode(), chance)
        )
        inputs.append((f"{number}.json", data))
    survive(replay_log, inputs, tmp_path, accepted=range(20, 280))


class Holder(Record):
    """The block of a scenario that holds an acceptance."""

    logits: Synthetic


FORMS: tuple[Any, ...] = (
    0.8,
    {"accepted_over_drafted": 0.343, "drafted": 16},
    {"tokens_a_round": 2.9, "drafted": 5},
    {"conditional": [0.82, 0.78, 0.75]},
    {"marginal": [0.82, 0.64, 0.48]},
    {"easy": 0.9, "hard": 0.2, "stay_easy": 0.9, "stay_hard": 0.7},
)


def accept(path: Path) -> None:
    """Read an acceptance, convert it, say it, and draw some chances from it."""
    holder = validated(Holder, parse(read_text(path), str(path)), str(path))
    luck = luck_by(holder.logits.acceptance, 1)
    chances = [luck.chance(Spot(0, position, position, place)) for position in range(5) for place in range(12)]
    assert all(0 <= chance <= 1 for chance in chances), chances
    assert f"{holder.logits.acceptance}"


def test_no_broken_acceptance_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(20_261_132)
    inputs = []
    for number in range(EACH):
        acceptance = changed_tree(FORMS[number % len(FORMS)], chance)
        data = json_bytes({"logits": {"source": "synthetic", "acceptance": acceptance}})
        inputs.append((f"{number}.yaml", changed_bytes(data, chance) if number % 4 == 0 else data))
    refusals = survive(accept, inputs, tmp_path, accepted=range(15, 285))
    assert any("acceptance" in refusal for refusal in refusals)


def test_what_is_not_broken_is_read() -> None:
    """The control: the readers above take what is right."""
    measure(PROJECT / "chips/measurements/example.csv")
    replay_log(PROJECT / "chips/measurements/traces/amusd_humaneval.json")
