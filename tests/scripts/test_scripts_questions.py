"""Scripts that ask one question over a grid: what theory says of the answers, reasons kept, faults told."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import guarded
from hilsim.describe.acceptance import acceptance_of, tokens_a_round
from hilsim.places import CODE as PROJECT
from hilsim.runs.evaluate import load_fitting
from hilsim.runs.replay import numbers_of
from hilsim.study.closed_forms import sync_speedup
from hilsim.study.rank_stability import drawn_for, rank_stability
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import crossing, with_length
from hilsim.study.uncertainty import in_use
from hilsim.study.what_ifs import with_draft_step, with_link

PAPER = "scenarios/paper_table.yaml"  # times from a table, words by chance: nothing to compile and nothing to record
SHORT = [f"--set=workload.{cut}" for cut in ("count=1", "max_turns=1", "max_new_tokens=12")]
SMALL = [*SHORT, "--set=networks=[]"]


def answered(name: str, *arguments: str | Path) -> int:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", PROJECT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for what their annotations name
    spec.loader.exec_module(module)
    return guarded(lambda: module.main(list(map(str, arguments))))


def rows(tmp_path: Path, name: str, *arguments: str | Path) -> list[dict[str, str]]:
    """The CSV of a script that ran well, with a picture drawn on the way where that can be."""
    file, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    drawn = ["--plot", picture] if importlib.util.find_spec("matplotlib") else []
    assert answered(name, *arguments, "--csv", file, *drawn) == 0
    assert not drawn or picture.read_bytes().startswith(b"\x89PNG")
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def test_an_always_right_draft_without_a_link_meets_the_closed_form(tmp_path: Path) -> None:
    """2000 tokens, so that reading the question and the last, cut round weigh less than a hundredth."""
    long = ["--set=workload.output_tokens=2000", "--set=context_tokens=4000", "--requests=1"]
    found = rows(tmp_path, "acceptance", PAPER, *long, "--acceptances=0.5,1", "--lengths=1,4,7")
    mine = {(row["acceptance"], row["draft_tokens"]): float(row["speedup"]) for row in found}
    for length in (1, 4):  # the table has no verify of more than five rows for less than two passes
        assert mine["1", str(length)] == pytest.approx(sync_speedup(1, length, 1.8 / 14.1), rel=0.01)


def test_speed_rises_with_acceptance_and_what_it_takes_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(tmp_path, "acceptance", PAPER, "--acceptances=0.2,0.5,0.8,0.99", "--lengths=1,4", "--requests=40")
    for length in ("1", "4"):
        speeds = [float(r["speedup"]) for r in found if r["draft_tokens"] == length and r["acceptance"]]
        assert speeds == sorted(speeds)
    assert "2.5x takes an acceptance of" in " ".join(capsys.readouterr().out.split())


def test_a_faster_link_is_never_slower_and_a_smaller_payload_neither(tmp_path: Path) -> None:
    grid = ["--bandwidths=0.1,10,1000", "--latencies=0.01,1,100", "--lengths=2,5"]
    found = rows(tmp_path, "link", PAPER, *grid, "--set=workload.requests=10")
    speed = {(r["payload"], float(r["mb_s"]), float(r["latency_ms"])): float(r["speedup"]) for r in found}
    payloads = {payload for payload, _, _ in speed}
    assert len(speed) == 9 * len(payloads) == 36
    for payload in payloads:
        for latency in (0.01, 1, 100):
            assert speed[payload, 0.1, latency] <= speed[payload, 10, latency] <= speed[payload, 1000, latency]
        for bandwidth in (0.1, 10, 1000):
            assert speed[payload, bandwidth, 100] <= speed[payload, bandwidth, 1] <= speed[payload, bandwidth, 0.01]
    for rate in (0.1, 10):
        assert (
            speed["ratio, full_rows", rate, 1] < speed["ratio, top_k 64", rate, 1] < speed["gumbel, token_ids", rate, 1]
        )


def test_break_even_without_a_link_is_the_draft_s_cost(tmp_path: Path) -> None:
    """One drafted token pays from acceptance c on (Leviathan et al., Corollary 3.9)."""
    grid = ["--ratios=0.2,0.6", "--lengths=1,4", "--acceptances=0.05:1:0.05", "--requests=60", "--answer=100"]
    found = rows(tmp_path, "break_even", PAPER, *grid, "--latency=5")
    for row in found:
        if row["link"] in ("no link", "ideal") and row["draft_tokens"] == "1":
            assert float(row["closed_form"]) == pytest.approx(float(row["ratio"]), abs=1e-3)
        simulated, closed = (float(row[key] or "nan") for key in ("break_even", "closed_form"))
        # Sixty answers: about three standard errors of an acceptance.
        assert simulated == pytest.approx(closed, abs=0.03, nan_ok=True)
    even = {(row["link"], row["ratio"], row["draft_tokens"]): row["break_even"] for row in found}
    assert float(even["no link", "0.2", "1"]) < float(even["5 ms a message", "0.2", "1"])


def test_where_2_5_needs_more_acceptance_on_wide_graphs_and_says_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    links = ("pcie-gen3-x4", "1000base-t1:full_rows", "on-chip")
    grid = ["--targets=llama-3.2-3b", "--widths=1-8-128,1-128", f"--links={','.join(links)}",
            "--acceptances=0.5,0.75,1", "--lengths=3,7", "--requests=20", "--answer=40"]  # fmt: skip
    found = rows(tmp_path, "where_2_5", *SMALL, *grid)
    assert Counter(row["link"] for row in found) == dict.fromkeys(links, 12)
    assert {row["link"] for row in found if row["why_not"]} == {"on-chip"}
    assert "both models on two chips" in next(row["why_not"] for row in found if row["why_not"])
    where = ("widths", "link", "acceptance", "draft_tokens")
    speed = {tuple(row[key] for key in where): float(row["speedup"]) for row in found if row["speedup"]}
    for (widths, link, acceptance, length), value in speed.items():
        if widths == "1 128":
            assert value < speed["1 8 128", link, acceptance, length]
        if link != links[0]:
            assert value < speed[widths, links[0], acceptance, length]
    told = " ".join(capsys.readouterr().out.split())
    assert "2.5x is reached with the least acceptance by: llama-3.2-3b from acceptance" in told


def test_drafts_and_caps(tmp_path: Path) -> None:
    """A larger cap never loses a draft; what does not fit says by how much."""
    found = rows(tmp_path, "memory_cap", *SMALL, "--caps=0.25,0.8,4", "--precisions=w4", "--lengths=4")
    best = {}
    for row in found:
        best[row["cap_gib"]] = max(best.get(row["cap_gib"], 0.0), float(row["speedup"] or 0))
        assert bool(row["speedup"]) != bool(row["why_not"])
    assert best["0.25"] == 0 < best["0.8"] <= best["4"]
    assert "x of the cap" in next(row["why_not"] for row in found if row["cap_gib"] == "0.25")
    sizes = rows(tmp_path, "draft_size", *SMALL, "--precisions=w4,w4a16", "--lengths=4",
                 "--draft=draft-68m-llama3:models/draft-0.8m")  # fmt: skip
    assert next(row for row in sizes if row["precision"] == "w4a16")["why_not"]
    ran = [row for row in sizes if row["speedup"]]
    # One stand-in says the same wherever its draft runs; away from the target a quicker token is a quicker answer.
    assert len({row["acceptance"] for row in ran}) == 1
    away = sorted((row for row in ran if row["unit"].startswith("drive")), key=lambda row: float(row["draft_ms"]))
    assert [float(row["speedup"]) for row in away] == sorted((float(row["speedup"]) for row in away), reverse=True)


@pytest.mark.slow
def test_widths_longer_contexts_and_warmth(tmp_path: Path) -> None:
    widths = rows(tmp_path, "widths", *SMALL, "--widths=1-128,1-8-128", "--policies=sync")
    wide, narrow = widths
    assert float(wide["speedup"]) < float(narrow["speedup"])
    assert float(wide["own_gib"]) < float(narrow["own_gib"])
    assert float(wide["shared_gib"]) == pytest.approx(float(narrow["shared_gib"]), rel=0.01)
    contexts = rows(tmp_path, "context", *SMALL, "--contexts=512,1024,4096", "--lengths=5", "--requests=10")
    assert float(contexts[0]["target_ms"]) < float(contexts[1]["target_ms"])
    assert float(contexts[0]["target_gib"]) < float(contexts[1]["target_gib"])
    assert "the limit of draft-68m-llama3" in contexts[2]["why_not"]
    warmth = rows(tmp_path, "temperature", *SHORT, "--temperatures=0,0.9", "--conversations=1", "--lengths=2,4")
    cold = [row for row in warmth if row["temperature"] == "0"]
    assert len(warmth) == 4
    assert cold[0]["speedup"] == cold[1]["speedup"], "without warmth all rules are one"


def test_ranking_draws_the_same_figures_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = "policy.draft_tokens=5 link=no-such-link"
    two = ["--contender=policy={name: sync, draft_tokens: 5}", "--contender=policy.draft_tokens=5",
           f"--contender={lost}", "--contender=draft.unit=cpu policy.draft_tokens=5"]  # fmt: skip
    found = rows(tmp_path, "ranking", *SMALL, *two, "--draws=12")
    assert [row["contender"] for row in found if row["why_not"]] == [lost]
    alike = [row for row in found if "cpu" not in row["contender"] and not row["why_not"]]
    assert len({(row["speedup"], row["low"], row["high"]) for row in alike}) == 1, "the same under two names"
    assert sum(float(row["first"]) for row in found if row["first"]) == pytest.approx(1)
    assert "The first place is" in capsys.readouterr().out


def test_standings_count_shares_of_the_draws() -> None:
    contest = rank_stability(-np.array([[3.0, 2, 1], [3, 1, 2], [1, 2, 3], [2, 2, 1]]))
    assert contest.ranks[0].tolist() == [0.75, 0, 0.25]
    assert contest.beats[0, 1] == 0.5, "of two alike neither beats the other"
    assert contest.mean_rank(0) == 1.5
    assert contest.ranks.sum(axis=0).tolist() == contest.ranks.sum(axis=1).tolist() == [1, 1, 1]


def test_draws_are_common_and_links_have_their_own() -> None:
    file = PROJECT / "scenarios" / "target_1b.yaml"
    setups = [load_fitting(file, [f"link={name}"]) for name in ("pcie-gen3-x4", "1000base-t1")]
    drawn = drawn_for(setups, 3, seed=4)
    for ours, theirs in drawn.setups():
        assert {path: figure.value for path, figure in in_use(ours).items() if not path.startswith("link")} == {
            path: figure.value for path, figure in in_use(theirs).items() if not path.startswith("link")
        }
        assert ours.link is not None
        assert theirs.link is not None
        assert ours.link.rate.value != theirs.link.rate.value
    once, again = ([in_use(ours) for ours, _ in drawn.setups()] for _ in range(2))
    assert once == again


def test_changes_of_a_set_up_are_what_they_say() -> None:
    setup = load_fitting(PROJECT / PAPER, [])
    slow = with_link(setup, 1e6, 0.01)
    assert steps_of(slow, 4).link_ms == pytest.approx(2 * 10 + (16 + 4 * 4 + 24) / 1000)
    dear = with_draft_step(setup, 5.0)
    assert (steps_of(dear, 4).draft_ms, steps_of(dear, 4).catch_up_ms) == (5.0, 0.0)
    assert numbers_of(with_length(dear, 4))["speedup"] < numbers_of(with_length(setup, 4))["speedup"]


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.9, 1.0])
def test_acceptance_of_is_tokens_a_round_backwards(acceptance: float) -> None:
    assert acceptance_of(tokens_a_round(acceptance, 5), 5) == pytest.approx(acceptance, abs=1e-9)


def test_where_a_line_crosses() -> None:
    assert crossing([0, 1, 2], [0, 1, 3], 2) == 1.5
    assert crossing([1, 100], [0, 2], 1, log=True) == pytest.approx(10)
    assert crossing([1, 2], [math.nan, 3], 2) == 2
    assert crossing([1, 2], [0, 1], 2) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["acceptance", "--acceptances", "0.3,1.5"], "rising numbers from 0 to 1"),
        (["acceptance", "--lengths", "1:x:2"], "rising numbers from 1 to 16"),
        (["acceptance", "--lengths", "1.5"], "whole numbers from 1 to 16"),
        (["acceptance", "--requests", "0"], "a whole number from 1 to 5000"),
        (["acceptance", "scenarios/target_alone.yaml"], "a draft, whose use is in question"),
        (["link", "scenarios/one_chip.yaml"], "a draft on another chip"),
        (["widths", "--widths", "8-1"], "rising numbers from 1 to 4096"),
        (["widths", "--policies", "sync,hope"], "'hope'"),
        (["draft_size", "--draft", "small"], "MODEL:STAND_IN"),
        (["temperature", PAPER], "live ones"),
        (["ranking", "--contender", "faster"], "KEY=VALUE"),
        (["ranking", "--contender", "policy.draft_tokens=5", PAPER], "two at least"),
        (["memory_cap", "scenarios/one_chip.yaml"], "a draft on a chip of its own"),
        (["where_2_5", "scenarios/no.yaml"], "no such file"),
        (["break_even", "--plot", "a.gif"], "a name that ends in"),
        (["context", "--csv", "scenarios"], "the name of a file to write"),
    ],
)
def test_faults_are_reported_before_anything_runs(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = answered(*arguments)
    except SystemExit as stop:  # argparse's own
        status = int(str(stop.code))
    assert status == 2
    assert words in capsys.readouterr().err
