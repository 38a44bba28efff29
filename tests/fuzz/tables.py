"""Tables and logs: measurements, operators, what tools write, step logs, arrivals, acceptance of every runtime."""

from __future__ import annotations

import csv
import io
import json
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from hilsim.describe import profile
from hilsim.describe.acceptance_formats.formats import load_acceptance
from hilsim.describe.arrival_times import read_instants
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
from tests.describe.test_acceptance_formats import BY_PLACE, BY_ROUND
from tests.fidelity.test_doubts import GREEDY, SECONDS
from tests.fidelity.test_importers import EXAMPLES, IMPORTS
from tests.fidelity.test_tables import BENCH, DECODE
from tests.fuzz import commands
from tests.fuzz.descriptions import SCENARIO
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import (
    ODDITIES,
    changed_bytes,
    changed_json,
    changed_lines,
    changed_tree,
    changed_yaml,
    json_bytes,
    with_near_numbers,
)
from tests.tiny import ROW

PREFILL = {"model": "other", "kind": "llm_prefill", "context_len": "512", "metric": "ttft_ms", "value": "600"}
VISION = {"kind": "vision", "metric": "latency_ms", "weight_bits": "8", "act_bits": "8", "gmacs": "3", "value": "9"}
ROWS = [ROW, ROW | PREFILL, ROW | VISION, ROW | {"kind": "spec_decode", "note": "vanilla 20, tokens per verify step 3"}]
BENCHES = [BENCH, BENCH | DECODE, BENCH | DECODE | {"n_depth": 512}]
STEPS = [
    {"sample_index": 0, "strategy": "sd", "metrics": SECONDS | {"tokens_generated": 10, "unit": "s"}},
    {"sample_index": 0, "strategy": "greedy", "metrics": GREEDY},
    {"sample_index": 0, "strategy": "amusd", "metrics": SECONDS | {"tokens_generated": 10}},
]  # fmt: skip
FORMS: tuple[Any, ...] = (
    0.8,
    {"accepted_over_drafted": 0.343, "drafted": 16},
    {"tokens_a_round": 2.9, "drafted": 5},
    {"conditional": [0.82, 0.78, 0.75]},
    {"marginal": [0.82, 0.64, 0.48]},
    {"easy": 0.9, "hard": 0.2, "stay_easy": 0.9, "stay_hard": 0.7},
)
ACCEPTANCES = [(name, content, given) for name, content, given, *_ in (*BY_PLACE, *BY_ROUND)]
ARRIVALS = PROJECT / "scenarios/arrivals/front_seat.csv"


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


def figures(chance: random.Random) -> Input:
    whole = chance.random() < 0.5
    text = table(ROWS if whole else with_odd_cells(ROWS, chance), chance)
    data = text.encode(chance.choice(("utf-8", "utf-8-sig", "utf-16")))
    return "figures.csv", changed_bytes(data, chance) if whole else data


def bench(chance: random.Random) -> Input:
    plain = [{key: value for key, value in record.items() if key != "samples_ts"} for record in BENCHES]
    match chance.randrange(3):
        case 0:
            data = table(with_odd_cells(plain, chance), chance).encode()
        case 1:
            data = changed_bytes(table(plain, chance).encode(), chance)
        case _:
            data = json_bytes(changed_tree(BENCHES, chance))
    return "bench.rig", data


def measure(path: Path) -> None:
    """Read figures, find what they are of, predict and doubt them, as `validate` does before its fits."""
    found = read_figures(path, "orin-nx-16gb" if path.suffix == ".rig" else None)
    cases, _, _ = resolve(found.rows)
    doubtful_rows(cases, families())


def log_of_a_tool(chance: random.Random) -> Input:
    """An example with bytes or numbers changed, and the JSON ones with oddities in their values."""
    name = chance.choice(list(EXAMPLES))
    good = (IMPORTS / name).read_bytes()
    if name.endswith(".json") and chance.random() < 0.6:
        return name, json_bytes(changed_tree(json.loads(good), chance))
    if chance.random() < 0.3:
        return name, with_near_numbers(good.decode(), chance).encode()
    return name, changed_bytes(good, chance)


def import_log(path: Path) -> None:
    import_logs([path], EXAMPLES[path.name][1])


def import_by_command(path: Path) -> None:
    """With what the example's own numbers leave out, to a file and to standard output."""
    given = EXAMPLES[path.name][1]
    words = ["import", commands.FILE, "--out", f"{commands.OUT}.csv"]
    for option, value in (("--device", given.device), ("--model", given.model), ("--precision", given.precision)):
        words += [] if value is None else [option, value]
    commands.run(words, path)


def step_log(chance: random.Random) -> Input:
    document = chance.choice((SECONDS | {"unit": "ms"}, STEPS))
    return "steps.json", changed_json(json.dumps(document).encode(), chance)


def replay_log(path: Path) -> None:
    """Read, doubt, replay and predict a log."""
    prompts = read_log(path)
    doubtful_steps(prompts, path)
    for runs in prompts:
        if runs.sync is not None:
            replay(runs, path)


class Holder(Record):
    """The block of a scenario that holds an acceptance."""

    logits: Synthetic


def acceptance(chance: random.Random) -> Input:
    form = changed_tree(chance.choice(FORMS), chance)
    data = json_bytes({"logits": {"source": "synthetic", "acceptance": form}})
    return "acceptance.yaml", changed_bytes(data, chance) if chance.random() < 0.25 else data


def accept(path: Path) -> None:
    """Read an acceptance, convert it, show it, and draw some chances from it."""
    holder = validated(Holder, parse(read_text(path), str(path)), str(path))
    luck = luck_by(holder.logits.acceptance, 1)
    chances = [luck.chance(Spot(0, position, position, place)) for position in range(5) for place in range(12)]
    assert all(0 <= chance <= 1 for chance in chances), chances
    assert f"{holder.logits.acceptance}"


def acceptance_log(chance: random.Random) -> Input:
    """What a runtime writes of its drafts, changed; its place among the examples is in the name."""
    place = chance.randrange(len(ACCEPTANCES))
    name, content, _ = ACCEPTANCES[place]
    text = content if isinstance(content, str) else json.dumps(content)
    match chance.randrange(3):
        case 0:
            data = changed_bytes(text.encode(), chance)
        case 1:
            data = changed_lines(text, chance).encode("utf-8", "replace")
        case _:
            data = with_near_numbers(text, chance).encode()
    return f"{place}~{name}", data


def read_acceptance(path: Path) -> None:
    _, _, given = ACCEPTANCES[int(path.name.partition("~")[0])]
    found = load_acceptance(str(path), path, **given)
    assert all(0 <= share <= 1 for share in found.conditional), found.conditional


def arrivals(chance: random.Random) -> Input:
    good = ARRIVALS.read_bytes()
    return "times.csv", changed_bytes(good, chance) if chance.random() < 0.5 else changed_lines(
        good.decode(), chance
    ).encode("utf-8", "replace")


def read_arrivals(path: Path) -> None:
    instants = read_instants(path)
    assert list(instants) == sorted(instants)


def operator_table(chance: random.Random) -> Input:
    text = profile.TABLE.read_text(encoding="utf-8")
    if chance.random() < 0.5:
        return "table.csv", changed_bytes(text.encode(), chance)
    return "table.csv", changed_lines(text, chance).encode("utf-8", "replace")


def spelled(name: str, chance: random.Random) -> Input:
    return name, changed_yaml((profile.TABLE.parent / name).read_bytes(), chance)


def read_operators(path: Path) -> None:
    """A table of operators, or a file beside it, in place of the shipped one, as a checkout could be damaged."""
    names = {"table.csv": ("TABLE", profile.operators), "spellings.yaml": ("SPELLINGS", profile.spellings),
             "formats.yaml": ("FORMATS", profile.number_formats)}  # fmt: skip
    constant, load = names[path.name]
    with mock.patch.object(profile, constant, path):
        load.cache_clear()
        try:
            load()
            for operator in profile.operators().values():
                for column in profile.COLUMNS:
                    profile.standing_of(operator.cells[column], 1.0)
        finally:
            load.cache_clear()


def value_of_set(chance: random.Random) -> Input:
    """A value for one key of a scenario, as text: any key of the shipped ones, any strange value."""
    keys = (
        "target.model",
        "target.precision",
        "target.widths",
        "draft",
        "draft.unit",
        "link",
        "context_tokens",
        "policy",
        "policy.draft_tokens",
        "policy.name",
        "accept",
        "payload",
        "logits",
        "logits.acceptance",
        "workload",
        "workload.requests",
        "seed",
        "units",
        "units.npu.backend",
        "networks",
        "compile.profile",
        "passengers",
        "climate",
        "background",
        "speech",
        "faults",
        "published",
        "",
        "x",
        "target.",
        ".",
        "a.b.c",
    )
    value = json.dumps(changed_tree(chance.choice([{"name": "sync", "draft_tokens": 4}, 4, "npu", [1, 8, 32]]), chance))
    text = f"{chance.choice(keys)}={value}" if chance.random() < 0.8 else value
    return "set.txt", changed_bytes(text.encode(), chance) if chance.random() < 0.3 else text.encode()


def check_with_set(path: Path) -> None:
    """`--set` as a shell would hand it over: no zero byte, any other bytes."""
    value = path.read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape")
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.yaml"
        scenario.write_text(SCENARIO)
        commands.run(["check", str(scenario), "--set", value], path)


KINDS = [
    Kind("figures", figures, measure, 300),
    Kind("llama-bench", bench, measure, 400),
    Kind("tool log", log_of_a_tool, import_log, 500),
    Kind("tool log by command", log_of_a_tool, import_by_command, 200),
    Kind("step log", step_log, replay_log, 400),
    Kind("acceptance", acceptance, accept, 300),
    Kind("acceptance log", acceptance_log, read_acceptance, 400),
    Kind("arrival times", arrivals, read_arrivals, 200),
    Kind("operator table", operator_table, read_operators, 100, (0.02, 1.0)),
    Kind("spellings", partial(spelled, "spellings.yaml"), read_operators, 60),
    Kind("number formats", partial(spelled, "formats.yaml"), read_operators, 60),
    Kind("value of --set", value_of_set, check_with_set, 400, (0.002, 0.95)),
]
