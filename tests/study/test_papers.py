"""Set-ups from papers: each simulates to its closed form, says what was printed, and the script compares the two."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hilsim.cost.verdict import check
from hilsim.describe.acceptance import run_of
from hilsim.describe.load import load_setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.sim.run import simulate
from hilsim.study.closed_forms import tokens_accepted
from hilsim.study.papers import case_of, closed_form, decoding_ns, published_of
from tests.scenes import both, synthetic, table_setup

FOLDER = PROJECT / "scenarios" / "papers"
FILES = sorted(FOLDER.glob("*.yaml"))
# One a paper and policy: a free draft, a costly draft, overhead left out, steps of their own to catch up, a block's
# time in parts, blocks in flight, a pass over a tree.
FAST = {"leviathan_t1_a90_g2", "leviathan_ende_large_t0", "chen_humaneval", "amusd_humaneval_sync",
        "picospec_qwen3_gsm8k_sync", "picospec_qwen3_gsm8k_n3", "eagle3_orin_qwen3_8b",
        "amusd_mtbench_means_async"}  # fmt: skip
WITHOUT_CLOSED_FORM = {"amusd_humaneval_async", "amusd_humaneval_means_async", "amusd_mtbench_means_async"}


def runs(files: list[Path]) -> list[Any]:
    return [pytest.param(file, id=file.stem, marks=[] if file.stem in FAST else pytest.mark.slow) for file in files]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_set_up_loads_fits_and_says_what_is_published(file: Path) -> None:
    setup = load_setup(file)
    check(setup, []).require()
    assert setup.scenario.name == file.stem
    published, closed = published_of(setup), closed_form(setup)
    assert len(published.source) > 10
    assert (closed is None) == (file.stem in WITHOUT_CLOSED_FORM)
    if published.per_token_ms is not None:
        assert published.note  # what no table of step times holds
    if closed is None:
        return
    if published.expected is not None:  # Leviathan's; rounded, and reckoned from inputs before they were rounded
        assert closed.speedup == pytest.approx(published.expected, abs=0.1)
    if published.per_token_ms is not None:  # a table never makes a round longer than it was
        assert 0.88 * published.per_token_ms < closed.per_token_ms < published.per_token_ms


@pytest.mark.parametrize("file", runs([file for file in FILES if file.stem not in WITHOUT_CLOSED_FORM]))
def test_every_set_up_simulates_to_its_closed_form(file: Path) -> None:
    """Within 2 %: 20 answers of 1,000 tokens are 3,700 rounds or more, so that is over two standard errors of any."""
    setup = load_setup(file)
    closed = closed_form(setup)
    assert closed is not None
    assert decoding_ns(simulate(setup, synthetic(setup))) / 1e6 == pytest.approx(closed.per_token_ms, rel=0.02)


@pytest.mark.parametrize("file", runs([file for file in FILES if file.stem in WITHOUT_CLOSED_FORM]))
def test_drafting_that_never_stops_is_predicted_by_the_synchronous_run(file: Path) -> None:
    """The means within 5 %, which is what three rows charged as six and a handshake left out come to. The trace's
    total holds 2 x 0.53 s of start for 389 tokens as well, by what `validate --trace` reads off its first verify."""
    setup = load_setup(file)
    printed = published_of(setup).per_token_ms
    assert printed is not None
    start_ms = 0.0 if "means" in file.stem else 2 * 527 / 389
    assert decoding_ns(simulate(setup, synthetic(setup))) / 1e6 + start_ms == pytest.approx(printed, rel=0.05)


@pytest.mark.parametrize(("drafted", "length", "tokens"), [(3, 2.03, 2.46), (4, 2.50, 3.01), (5, 2.84, 3.43),
                                                           (6, 3.10, 3.75)])  # fmt: skip
def test_picospecs_accepted_lengths_foretell_its_tokens_a_round(drafted: int, length: float, tokens: float) -> None:
    """Its Table 4: drafted tokens that stand, and throughput times printed round without a bonus token."""
    scenario = load_setup(FOLDER / f"picospec_qwen3_gsm8k_n{drafted}.yaml").scenario
    assert scenario.logits.source == "synthetic"
    assert isinstance(scenario.logits.acceptance, float)
    assert tokens_accepted(scenario.logits.acceptance, drafted) == pytest.approx(length, abs=0.005)
    assert run_of(scenario.logits.acceptance, drafted) == pytest.approx(tokens, rel=0.02)


POLICIES = ["{name: sync, draft_tokens: 4}", "{name: pearl, draft_tokens: 4}", "{name: pearl, draft_tokens: 12}",
            "{name: pipelined, draft_tokens: 4, pre_verify: false}",
            "{name: pipelined, draft_tokens: 13, pre_verify: false}"]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_with_a_closed_form_runs_to_it_over_a_link(tmp_path: Path, policy: str) -> None:
    """Drafting and its 6 ms round trip now shorter, now longer than the verify of 60 or 90 ms. Within 3 %: two standard
    errors or more of 10 answers of 1,000 tokens."""
    setup = table_setup(tmp_path, f"policy={policy}", "logits.acceptance=0.8", "workload.requests=10",
                        "workload.output_tokens=1001")  # fmt: skip
    closed = closed_form(setup)
    assert closed is not None
    assert decoding_ns(simulate(setup, synthetic(setup))) / 1e6 == pytest.approx(closed.per_token_ms, rel=0.03)


def test_a_slow_link_is_in_the_closed_form(tmp_path: Path) -> None:
    """2 ms a message and 1 ms on the way, up and down: 6 ms a round; 4 x 5 to draft, 60 to verify, 5 tokens for it."""
    setup = table_setup(tmp_path)
    closed = closed_form(setup)
    assert closed is not None
    assert closed.per_token_ms == pytest.approx((4 * 5 + 60 + 6) / 5, abs=1e-3)
    assert closed.speedup == pytest.approx(50 * 5 / 86, abs=1e-3)
    case = case_of(table_setup(tmp_path, "published={per_token_ms: 20, source: made up}"), *both(setup))
    assert case.simulated.per_token_ms == pytest.approx(closed.per_token_ms, rel=1e-3)  # two whole rounds
    assert case.from_published == pytest.approx(86 / 5 / 20 - 1, abs=1e-3)


@pytest.mark.parametrize(
    ("override", "words"),
    [("published={source: a paper}", "no figure"), ("published={speedup: 0, source: a paper}", "than 0"),
     ("published={speedup: 2}", "source"), ("published={speedup: 2, source: a paper, page: 3}", "page")],
)  # fmt: skip
def test_what_is_published_is_checked(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        table_setup(tmp_path, override)


@pytest.mark.parametrize(
    "overrides",
    [["policy={name: async}"], ["policy={name: pipelined, draft_tokens: 4}"],
     ["logits.acceptance={conditional: [0.9, 0.5]}"],
     ['target.timer={prefill: {"64": 0}, decode: 0, verify: {"8": 1}, source: none}'],
     ["policy={name: pipelined, draft_tokens: 4, pre_verify: false, blocks_in_flight: 2}"],
     ["policy={name: sync, draft_tokens: 4, fallback: {}}"],
     ["accept=ratio", "sampling={temperature: 1}", "verify_at=draft", "payload=full_rows"]],
)  # fmt: skip
def test_what_has_no_closed_form_has_none(tmp_path: Path, overrides: list[str]) -> None:
    assert closed_form(table_setup(tmp_path, *overrides)) is None


def test_a_target_alone_has_no_place_among_papers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a policy that speculates"):
        published_of(table_setup(tmp_path, "policy={name: target_only}", "published={speedup: 2, source: a paper}"))


def papers(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/papers.py", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_script_compares_and_writes(tmp_path: Path) -> None:
    for name in ("chen_humaneval", "amusd_humaneval_async"):
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(text.replace("requests: 20", "requests: 1"))
    pytest.importorskip("matplotlib")
    done = papers(*sorted(tmp_path.glob("*.yaml")), "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 125
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout
    assert any("amusd_humaneval_async" in line and line.count(" - ") == 3 for line in lines)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        never_stops, row = csv.DictReader(file)
    assert (row["unit"], row["published"], row["expected"]) == ("ms/token", "5.73", "")
    # E = (1 - .88^5) / .12 tokens in 4 x 1.8 + 14.1 ms
    assert float(row["closed_form"]) == pytest.approx(21.3 / ((1 - 0.88**5) / 0.12), rel=1e-4)
    assert float(row["simulated"]) == pytest.approx(float(row["closed_form"]), rel=0.15)
    assert never_stops["closed_form"] == never_stops["simulated_over_closed_form"] == ""
    assert float(never_stops["simulated_over_published"]) < 1
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["scenarios/paper_table.yaml"], "what the paper printed"), (["scenarios/no.yaml"], "no such file"),
     (["--plot", "a.gif"], "a name that ends in")],
)  # fmt: skip
def test_the_script_refuses_before_it_runs(arguments: list[str], words: str) -> None:
    done = papers(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
