"""Set-ups from papers: each simulates to its closed form, says what was printed, and the script compares the two."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.cost.verdict import check
from hilsim.describe.catalogue import PROJECT
from hilsim.describe.load import load_setup
from hilsim.errors import InputError
from hilsim.sim.run import simulate
from hilsim.study.papers import case_of, closed_form, decoding_ns, published_of
from tests.scenes import both, synthetic, table_setup

FOLDER = PROJECT / "scenarios" / "papers"
FILES = sorted(FOLDER.glob("*.yaml"))
# One a paper: a free draft, a costly draft, overhead left out, steps of their own to catch up, a block's time in parts.
FAST = {"leviathan_t1_a90_g2", "leviathan_ende_large_t0", "chen_humaneval", "amusd_humaneval_sync",
        "picospec_qwen3_gsm8k_sync"}  # fmt: skip
RUNS = [pytest.param(file, id=file.stem, marks=[] if file.stem in FAST else pytest.mark.slow) for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_set_up_loads_fits_and_says_what_is_published(file: Path) -> None:
    setup = load_setup(file)
    check(setup, []).require()
    assert setup.scenario.name == file.stem
    published, closed = published_of(setup), closed_form(setup)
    assert len(published.source) > 10
    if published.expected is not None:  # Leviathan's; rounded, and reckoned from inputs before they were rounded
        assert closed.speedup == pytest.approx(published.expected, abs=0.1)
    if published.per_token_ms is not None:  # what no table of step times holds is said in a note
        assert closed.per_token_ms == pytest.approx(published.per_token_ms, rel=0.06)
        assert published.note


@pytest.mark.parametrize("file", RUNS)
def test_every_set_up_simulates_to_its_closed_form(file: Path) -> None:
    """Within 2 %: 20 answers of 1,000 tokens are 3,700 rounds or more, so that is over two standard errors of any."""
    setup = load_setup(file)
    assert decoding_ns(simulate(setup, synthetic(setup))) / 1e6 == pytest.approx(
        closed_form(setup).per_token_ms, rel=0.02
    )


def test_a_slow_link_is_in_the_closed_form(tmp_path: Path) -> None:
    """2 ms a message and 1 ms on the way, up and down: 6 ms a round; 4 x 5 to draft, 60 to verify, 5 tokens for it."""
    setup = table_setup(tmp_path)
    assert closed_form(setup).per_token_ms == pytest.approx((4 * 5 + 60 + 6) / 5, abs=1e-3)
    assert closed_form(setup).speedup == pytest.approx(50 * 5 / 86, abs=1e-3)
    case = case_of(table_setup(tmp_path, "published={per_token_ms: 20, source: made up}"), *both(setup))
    assert case.simulated.per_token_ms == pytest.approx(case.closed.per_token_ms, rel=1e-3)  # two whole rounds
    assert case.from_published == pytest.approx(86 / 5 / 20 - 1, abs=1e-3)


@pytest.mark.parametrize(
    ("override", "words"),
    [("published={source: a paper}", "no figure"), ("published={speedup: 0, source: a paper}", "greater than 0"),
     ("published={speedup: 2}", "source"), ("published={speedup: 2, source: a paper, page: 3}", "page")],
)  # fmt: skip
def test_what_is_published_is_checked(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        table_setup(tmp_path, override)


@pytest.mark.parametrize("override", ["policy={name: target_only}", "logits.acceptance=[0.9, 0.5]"])
def test_what_has_no_closed_form_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(InputError, match="what has a closed form here"):
        closed_form(table_setup(tmp_path, override))


def papers(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/papers.py", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_script_compares_and_writes(tmp_path: Path) -> None:
    text = (FOLDER / "chen_humaneval.yaml").read_text(encoding="utf-8")
    (tmp_path / "short.yaml").write_text(text.replace("requests: 20", "requests: 1"))
    pytest.importorskip("matplotlib")
    done = papers(tmp_path / "short.yaml", "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "chen_humaneval" in done.stdout
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["unit"], row["published"], row["expected"]) == ("ms/token", "5.73", "")
    # E = (1 - .88^5) / .12 tokens in 4 x 1.8 + 14.1 ms
    assert float(row["closed_form"]) == pytest.approx(21.3 / ((1 - 0.88**5) / 0.12), rel=1e-4)
    assert float(row["simulated"]) == pytest.approx(float(row["closed_form"]), rel=0.15)
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
