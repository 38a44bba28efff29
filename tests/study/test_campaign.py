"""Campaigns: their points, which phases were hit, what is ranked how, and the verdict, by outcomes that are given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from rich.console import Console

from hilsim.describe.campaign import fault_label, single_faults
from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.faults import PHASES
from hilsim.show.campaign import NEVER, cost_text, document, miss_text, policies_table, render, verdict
from hilsim.show.plots.campaign import draw_campaign
from hilsim.study.point_result import PointResult
from hilsim.study.points import Label, grid_of
from tests.campaigns import ALONE, DROP, HANG, SYNC, outcome, result, write_campaign

POLICIES = ("target_only", "sync, draft_tokens 4")
FAULTS = ("link_drop up, 50 ms", "link_drop down, 50 ms", "hang target, reload 200 ms")


def harmless(labels: Sequence[Label]) -> PointResult:
    return outcome(str(labels[2]))


def test_every_fault_comes_at_every_instant_under_every_policy_once(tmp_path: Path) -> None:
    grid = grid_of(load_campaign(write_campaign(tmp_path, instants={"at_ms": [5, 70.5]})).described, "x")
    instants = ["at 5 ms", "at 70.5 ms"]
    assert [tuple(grid.labels(one.places)) for one in grid.points()] == list(product(POLICIES, FAULTS, instants))
    named = {"phases": list(PHASES), "each": 2, "at_ms": [5]}
    grid = grid_of(load_campaign(write_campaign(tmp_path, instants=named)).described, "x")
    phases = [f"{phase} {number}" for phase in PHASES for number in (1, 2)]
    assert len({one.key for one in grid.points()}) == 2 * 3 * 13
    instants = [*phases, "at 5 ms"]
    assert [tuple(grid.labels(one.places)) for one in grid.points()] == list(product(POLICIES, FAULTS, instants))


def test_a_point_injects_its_fault_at_its_instant_alone(tmp_path: Path) -> None:
    from hilsim.describe.load import load_setup

    described = load_campaign(write_campaign(tmp_path, instants={"phases": ["idle", "up"], "each": 2, "at_ms": [9]}))
    grid = grid_of(described.described, "x")
    found = Counter()
    for point in grid.points():
        faults = load_setup(tmp_path / "table.yaml", point.overrides).scenario.faults
        assert faults is not None
        (one,) = faults.inject
        on = None if one.on is None else (one.on.phase, one.on.request, one.on.round)
        found[one.kind, one.where, one.for_ms, on, one.at_ms] += 1
    instants = [(("idle", 0, None), ()), (("idle", 1, None), ()), (("up", 0, 1), ()), (("up", 1, 2), ()), (None, (9,))]
    faults = [("link_drop", "up", 50), ("link_drop", "down", 50), ("hang", "target", None)]
    assert found == {(*fault, *instant): 2 for fault, instant in product(faults, instants)}


def test_listed_values_of_a_fault_are_all_tried() -> None:
    given = {"kind": "loss", "rate": [0.1, 0.5], "burst": 4, "for_ms": [50, None]}
    labels = [fault_label(one) for one in single_faults(given)]
    assert labels == [
        "loss, rate 0.1, burst 4, 50 ms", "loss, rate 0.1, burst 4, for good",
        "loss, rate 0.5, burst 4, 50 ms", "loss, rate 0.5, burst 4, for good",
    ]  # fmt: skip


def test_coverage_is_what_an_enumeration_counts(tmp_path: Path) -> None:
    """Each run has one of three ends by its place: where it was aimed, elsewhere, or nowhere."""
    file = write_campaign(tmp_path, instants={"phases": list(PHASES), "each": 3, "at_ms": [7]})
    runs: list[tuple[str, str, str]] = []  # fault, aimed at, hit

    def became(labels: Sequence[Label]) -> PointResult:
        aimed = str(labels[2]).split()[0].removesuffix("at")
        hit = (aimed or "draft", "down", "")[len(runs) % 3]
        runs.append((str(labels[1]), aimed, hit))
        return outcome(hit, "" if hit else f"no {aimed}")

    found = result(file, became)
    assert len(runs) == 2 * 3 * 19
    for fault, phase in product(FAULTS, PHASES):
        hits = sum(one == fault and hit == phase for one, _, hit in runs)
        aimed = sum(one == fault and (aim == phase or (not aim and hit == phase)) for one, aim, hit in runs)
        assert found.coverage[fault][phase] == (hits, aimed)
    missed = [(aim, hit) for _, aim, hit in runs if not hit or aim not in ("", hit)]
    assert sum(one.runs for one in found.misses) == len(missed)
    reasons = {f"it began at {hit}" if hit else f"no {aim}" for aim, hit in missed}
    assert {one.reason for one in found.misses} == reasons
    assert len(found.whole.hit) == sum(bool(hit) for *_, hit in runs)


def test_numbers_of_a_group_are_those_of_its_hit_runs(tmp_path: Path) -> None:
    added = iter(range(1, 37))

    def became(labels: Sequence[Label]) -> PointResult:
        number = float(next(added))
        if labels[2] == "idle":
            return outcome("", "no idle", added_ms=1e9)
        return outcome(str(labels[2]), added_ms=number, resent_bytes=2 * number, survived=float(number % 2))

    found = result(write_campaign(tmp_path), became)
    (group,) = [one for one in found.cells if one.fault == FAULTS[1] and one.policy == POLICIES[0]]
    # Runs 7 to 12 of the grid, the last of which is not hit: 7, 8, 9, 10, 11.
    assert group.values("added_ms") == [7, 8, 9, 10, 11]
    assert (group.median("added_ms"), group.most("resent_bytes")) == (9, 22)
    assert group.percentile("added_ms", "p99") == pytest.approx(10 + 0.96)  # linear between the ranks: 0.99 * 4 = 3.96
    assert (group.lost, group.wrong, group.good) == (2, 0, 3)
    assert group.median("detection_ms") is None


def test_not_survived_ranks_before_wrong_before_late_before_slow(tmp_path: Path) -> None:
    kinds = [{"kind": kind, "where": "draft"} for kind in ("reset", "hang", "wrong_row")]
    file = write_campaign(tmp_path, faults=[*kinds, {"kind": "lost"}], policies=[SYNC, ALONE])
    bad = {
        "reset draft": {"added_ms": 900.0},
        "hang draft": {"in_time": 0.0, "added_ms": 3.0},
        "wrong_row draft": {"exact": 0.0, "silent": 1.0},
        "lost": {"survived": 0.0},
    }

    def became(labels: Sequence[Label]) -> PointResult:
        return outcome(str(labels[2]), **bad[str(labels[1])] if labels[0] != "target_only" else {"added_ms": 1.0})

    found = result(file, became)
    assert [one.fault for one in found.faults] == ["lost", "wrong_row draft", "hang draft", "reset draft"]
    assert [one.policy for one in found.policies] == ["target_only", "sync, draft_tokens 4"]


def test_a_fault_that_no_policy_survives_is_named_first(tmp_path: Path) -> None:
    def became(labels: Sequence[Label]) -> PointResult:
        return outcome(str(labels[2]), survived=float(labels[1] != "hang target, reload 200 ms"), added_ms=5.0)

    text = verdict(result(write_campaign(tmp_path), became))
    assert text.startswith(
        "The fault hit 36 of 36 runs. In 24 of the 36 it was survived with the target's own text. In 12 "
    )
    assert "In 12 it was not survived (hang target, reload 200 ms)." in text


def test_a_fault_that_one_policy_does_not_survive_is_named_with_it(tmp_path: Path) -> None:
    def became(labels: Sequence[Label]) -> PointResult:
        bad = labels[1] == "hang target, reload 200 ms" and labels[0] == "target_only"
        return outcome(str(labels[2]), exact=float(not bad), silent=float(bad))

    found = result(write_campaign(tmp_path), became)
    assert "In 6 the text is wrong, unnoticed (hang target, reload 200 ms under target_only)" in verdict(found)
    marked = {(one.fault, one.policy) for one in found.cells if "≠" in cost_text(one)}
    assert marked == {("hang target, reload 200 ms", "target_only")}


def test_a_campaign_that_hits_nothing_says_so(tmp_path: Path) -> None:
    found = result(write_campaign(tmp_path), lambda labels: outcome("", "never"))
    assert verdict(found).startswith("No fault hit anything: in 0 of 36 runs it began and changed nothing")
    assert {cost_text(one) for one in found.cells} == {NEVER}


def test_a_fault_that_begins_and_changes_nothing_has_hit_nothing(tmp_path: Path) -> None:
    """Its run is neither survived nor in a mean of those that were: it is listed with the reason."""

    def became(labels: Sequence[Label]) -> PointResult:
        if labels[0] == "target_only" and str(labels[1]).startswith("link_drop"):
            return outcome(str(labels[2]), hit=0.0, added_ms=0.0)
        return outcome(str(labels[2]), added_ms=8.0)

    found = result(write_campaign(tmp_path), became)
    assert (len(found.whole.began), len(found.whole.hit), found.whole.good) == (36, 24, 24)
    assert verdict(found).startswith(
        "The fault hit 24 of 36 runs; in 12 more it began and changed nothing. Wherever it"
    )
    assert found.group(FAULTS[0], "").mean("added_ms") == 8
    assert found.coverage[FAULTS[0]]["up"] == (1, 2)
    assert [(one.reason, one.runs) for one in found.misses] == [("it began and changed nothing", 12)]
    assert {(one.fault, one.policy) for one in found.cells if cost_text(one) == NEVER} == {
        (fault, "target_only") for fault in FAULTS[:2]
    }


def test_the_best_policy_that_speculates_is_named_beside_the_target_alone(tmp_path: Path) -> None:
    """Most faults cannot touch the target alone: what it is hit by, and what the other gains, stand beside it."""

    def became(labels: Sequence[Label]) -> PointResult:
        alone = labels[0] == "target_only"
        missed = alone and str(labels[1]).startswith("link_drop")
        latency, added = (3000.0, 300.0) if alone else (1000.0, 600.0)
        return outcome(str(labels[2]), hit=float(not missed), added_ms=added, request_latency_ms=latency)

    found = result(write_campaign(tmp_path, policies=[ALONE, {**SYNC, "draft_tokens": 2}]), became)
    assert verdict(found).endswith(
        " target_only stands them best: they hit 6 of its 18 runs and add 300 ms to an answer, on average over all. "
        "Of the policies that speculate sync does: they hit 18 of its 18 runs and add 600 ms to an answer, on average "
        "over all. With faults an answer takes 3.00 s with target_only, 1.00 s with sync on average."
    )


def test_the_table_of_policies_has_the_shares_that_they_are_ranked_by(tmp_path: Path) -> None:
    """A policy that is hit in few runs and late in half of those ranks before one that is hit and late more often."""

    def became(labels: Sequence[Label]) -> PointResult:
        if labels[0] == "target_only":
            return outcome(str(labels[2]), hit=float(labels[2] == "up"), in_time=float(labels[1] != FAULTS[0]))
        return outcome(str(labels[2]), in_time=float(labels[2] != "idle"))

    found = result(write_campaign(tmp_path), became)
    # Of those hit 1 of 3 and 3 of 18 are late, of all 1 of 18 and 3 of 18.
    assert [row[:5] for row in policies_table(found).rows] == [
        ["target_only", "3/18", "0 %", "0 %", "6 %"], ["sync", "18/18", "0 %", "0 %", "17 %"],
    ]  # fmt: skip


def test_a_policy_that_never_runs_ranks_last_and_is_not_praised(tmp_path: Path) -> None:
    refused = PointResult("", "refused", {}, "no such unit", 0.0)

    def became(labels: Sequence[Label]) -> PointResult:
        return refused if labels[0] == "target_only" else outcome(str(labels[2]), survived=0.0)

    found = result(write_campaign(tmp_path), became)
    assert [one.policy for one in found.policies] == ["sync, draft_tokens 4", "target_only"]
    assert "stands them best" not in verdict(found)


@pytest.mark.parametrize("width", [80, 120, 140])
def test_the_report_fits_its_terminal_and_cuts_no_number(width: int, tmp_path: Path) -> None:
    policies = [{"name": "sync", "draft_tokens": number} for number in range(2, 9)]
    file = write_campaign(tmp_path, policies=[ALONE, *policies], question="What is survived?")
    measures = ("detection_ms", "reaction_ms", "recovery_ms", "recomputed_tokens", "resent_bytes")
    numbers = dict.fromkeys(measures, 12345.0)
    found = result(file, lambda labels: outcome(str(labels[2]), added_ms=12345.0, **numbers))
    console = Console(width=width, highlight=False, markup=False, record=True, force_terminal=False)
    with console.capture() as captured:
        render(load_campaign(file).campaign, found, 500.0, console, details=True)
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.splitlines()[0] == "What is survived?"
    assert text.splitlines()[1].startswith("The fault hit 144 of 144 runs. Wherever it hit it was survived")
    assert sum(line.count("12.35 s") for line in text.splitlines()) >= 3 * 8  # every field of faults by policies


def test_the_document_has_no_number_that_json_lacks(tmp_path: Path) -> None:
    file = write_campaign(tmp_path)
    found = result(file, harmless)
    told = document(load_campaign(file).campaign, found, 500.0)
    assert [one["fault"] for one in told["fault_under_policy"]] == [fault for fault in FAULTS for _ in POLICIES]
    assert told["coverage"]["hang target, reload 200 ms"]["up"] == {"hit": 2, "aimed": 2}
    assert told["fault_under_policy"][0]["added_ms"] == {"p50": None, "p99": None, "max": None}

    def flat(node: object) -> list[float]:
        if isinstance(node, dict | list):
            return [number for one in (node.values() if isinstance(node, dict) else node) for number in flat(one)]
        return [node] if isinstance(node, float) else []

    assert all(map(math.isfinite, flat(told)))


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_is_drawn_whatever_was_hit(kind: str, tmp_path: Path) -> None:
    file = write_campaign(tmp_path)
    for name, became in (("none", lambda labels: outcome("", "never")), ("some", harmless)):
        draw_campaign(result(file, became), "title", tmp_path / name, kind)
        assert (tmp_path / name).stat().st_size > 1000


def test_runs_that_were_refused_are_listed_with_their_reason(tmp_path: Path) -> None:
    refused = PointResult("", "refused", {}, "no such unit", 0.0)
    file = write_campaign(tmp_path)
    found = result(file, lambda labels: refused if labels[0] == "target_only" else harmless(labels))
    (miss,) = found.misses
    assert (miss.reason, miss.runs, miss.policies) == ("no such unit", 18, ("target_only",))
    assert (miss.aims, miss.faults) == (PHASES, FAULTS)
    assert found.coverage["hang target, reload 200 ms"]["up"] == (1, 2)


def test_a_miss_says_at_once_where(tmp_path: Path) -> None:
    instants = {"phases": ["up"], "at_ms": [9999999]}
    found = result(write_campaign(tmp_path, instants=instants), lambda labels: outcome("", f"not {labels[2]}"))
    texts = [miss_text(one, {}.fromkeys(found.names(0), "any")) for one in found.misses]
    assert [text.partition("(")[2] for text in texts] == [
        "3 faults at up under any and any)", "3 faults at 9999999 ms under any and any)",
    ]  # fmt: skip


def test_the_small_campaign_is_what_these_tests_take_it_for(tmp_path: Path) -> None:
    found = result(write_campaign(tmp_path), harmless)
    assert (tuple(found.names(0)), tuple(found.names(1)), tuple(found.names(2))) == (POLICIES, FAULTS, PHASES)
    assert [fault_label(one) for given in (DROP, HANG) for one in single_faults(given)] == list(FAULTS)
