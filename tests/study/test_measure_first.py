"""Which measurement narrows a headline number: shares of variance done on paper, and the command around them."""

from __future__ import annotations

from csv import DictReader
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import main
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.study.board_readings import board_readings
from hilsim.study.measure_first import MeasureFirst, measure_first, share_of
from tests.documents import document_of
from tests.scenes import LINK, TABLE, shipped, table_setup

# Both evenly within 1 ms of their value, so both have the variance 1/3; bytes are free at any rate of the range.
RANGED = (
    LINK.replace("value: 2, unit: ms,", "value: 2, unit: ms, range: [1, 3],")
    .replace("value: 1, unit: ms,", "value: 1, unit: ms, range: [0, 2],")
    .replace("unit: GB/s,", "unit: GB/s, range: [5000000000, 10000000000],")
)


def ranged_table(folder: Path) -> Path:
    """The table scenario over a link whose figures have ranges."""
    (folder / "link.yaml").write_text(RANGED)
    file = folder / "table.yaml"
    file.write_text(TABLE.replace("LINK", "link.yaml"))
    return file


def ranged_setup(folder: Path) -> Setup:
    return load_setup(ranged_table(folder))


def drawn(seed: int, draws: int, figures: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Figures, each evenly between -1 and 1."""
    return np.random.Generator(np.random.Philox(seed)).uniform(-1, 1, (draws, figures))


def test_shares_of_a_line_are_those_on_paper() -> None:
    """Y = 3 x + y: of the variance (9 + 1) / 3 x explains 0.9 and y 0.1; a third figure explains nothing."""
    figures = drawn(1, 4000, 3)
    headline = 3 * figures[:, 0] + figures[:, 1]
    first, second, without = (share_of(headline, figures[:, [place]]) for place in range(3))
    assert first.value == pytest.approx(0.9, abs=4 * first.error)
    assert second.value == pytest.approx(0.1, abs=4 * second.error)
    assert first.error < 0.005
    assert without.value == 0
    # With x known y remains, whose middle 90 % is 1.8 wide; with y known 3 x remains: 5.4.
    assert first.then[1] - first.then[0] == pytest.approx(1.8, abs=0.05)
    assert second.then[1] - second.then[0] == pytest.approx(5.4, abs=0.15)


def test_two_numbers_of_one_session_explain_what_neither_does_alone() -> None:
    """Y = x y: E[Y | x] is 0 for every x, so each alone has the share 0; both together leave nothing."""
    figures = drawn(2, 4000, 2)
    headline = figures[:, 0] * figures[:, 1]
    assert [share_of(headline, figures[:, [place]]).value for place in range(2)] == [0, 0]
    both = share_of(headline, figures)
    assert both.value == pytest.approx(1)
    assert both.then[1] - both.then[0] == pytest.approx(0, abs=1e-9)


def test_nothing_is_explained_where_nothing_varies() -> None:
    figures = drawn(3, 100, 1)
    assert share_of(np.ones(100), figures).value == 0
    assert share_of(figures[:, 0], np.full((100, 1), 0.1)).value == 0


def test_the_order_and_the_absent_figure_hold_under_every_seed() -> None:
    """Shares 16/21, 4/21 and 1/21 keep their order over 400 draws; of 20 figures without effect none is listed."""
    for seed in range(20):
        figures = drawn(seed, 400, 4)
        headline = 4 * figures[:, 0] + 2 * figures[:, 1] + figures[:, 2]
        shares = [share_of(headline, figures[:, [place]]).value for place in range(4)]
        assert shares[0] > shares[1] > shares[2]
        assert shares[3] == 0


def test_a_ping_determines_what_it_rests_on_together(tmp_path: Path) -> None:
    """Latency is a line over overhead plus delay, which is what a ping measures: all of the variance, both figures.

    Times of steps are typed in and the rate is without effect, so nothing else is listed.
    """
    found = measure_first(ranged_setup(tmp_path), "request_latency_ms.mean", 100, 1)
    (ping,) = found.ranked
    assert ping.reading.where == "test-link"
    assert ping.figures == ("link/message_overhead", "link/propagation")
    assert ping.share.value == pytest.approx(1)
    assert ping.share.then[1] - ping.share.then[0] == pytest.approx(0, abs=1e-3)
    assert found.ranged == ("link/rate", "link/message_overhead", "link/propagation")
    # A small message's way is 3 ms and, of two even figures of +-1 ms, in the middle 90 % within 1.37 of it.
    low, high = ping.expected[0]
    assert (low, high) == pytest.approx((1632, 4368), abs=250)
    assert found.now[0] < found.nominal < found.now[1]


def test_the_same_seed_gives_the_same_ranking(tmp_path: Path) -> None:
    setup = ranged_setup(tmp_path)

    def plain(found: MeasureFirst) -> tuple[object, ...]:
        return found.now, [(one.reading.what, one.expected, one.share) for one in found.ranked]

    first, again, other = (plain(measure_first(setup, "speedup", 60, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_without_ranges_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no figure with a range"):
        measure_first(table_setup(tmp_path), "speedup", 60, 1)


def test_the_command_prints_one_document_and_writes_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, table = str(ranged_table(tmp_path)), tmp_path / "first.csv"
    assert main(["measure-first", file, "--draws", "60", "--seed", "3", "--json", "--csv", str(table)]) == 0
    document = document_of("measure-first --json", capsys.readouterr().out)
    assert (document["measure"], document["draws"], document["seed"]) == ("speedup", 60, 3)
    (ping,) = document["measurements"]
    assert ping["rank"] == 1
    assert ping["share"] > 0.99
    assert document["now"]["high"] - document["now"]["low"] > 10 * (ping["then"]["high"] - ping["then"]["low"])
    with table.open(newline="") as opened:
        (row,) = DictReader(opened)
    assert row["what"] == ping["what"]
    assert float(row["share"]) == pytest.approx(ping["share"], rel=1e-5)
    assert main(["measure-first", file, "--draws", "60", "--measure", "bytes_up"]) == 0
    assert "would narrow it by more than chance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--measure", "speed-up"], "--measure: found 'speed-up'; expected one of speedup"),
        (["--measure", "memory_bytes"], "which sizes decide and not times"),
        (["--set", "policy={name: target_only}", "--measure", "tokens_per_round"], "which this run does not have"),
        (["--csv", "table.yaml/x.csv"], "--csv"),
    ],
)
def test_bad_input_is_refused(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["measure-first", str(ranged_table(tmp_path)), "--draws", "60", *options]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert not printed.out


def test_a_reading_is_what_a_step_takes_and_two_roles_on_one_unit_share_their_switch() -> None:
    setup = shipped("one_chip", "draft.unit=npu")
    readings = {(one.what, one.where): one for one in board_readings(setup)}
    assert len(readings) == len(board_readings(setup))
    assert [where for what, where in readings if what == "graph switch"] == [setup.target.track]
    step = timer_for(setup.target, setup.scenario.context_tokens).duration_ns(Step(Phase.DECODE, 1, 512))
    assert readings["decode step of llama-3.2-3b", setup.target.track].of(setup) == (step / 1e6,)
    names = ", ".join(name.removesuffix(" of llama-3.2-3b") for name, _ in list(readings)[:3])
    assert len(readings[f"{names} of llama-3.2-3b, together", setup.target.track].of(setup)) == 3


@pytest.mark.slow
def test_one_session_on_the_target_narrows_the_first_scenario_most() -> None:
    """Whatever the seed: target steps are nearly all of a round, and their ratio is the speed-up."""
    setup = shipped("orin_8295_greedy")
    for seed in (1, 2):
        found = measure_first(setup, "speedup", 100, seed)
        best = found.ranked[0]
        assert best.reading.what.endswith("of llama-3.2-3b, together")
        assert best.share.then[1] - best.share.then[0] < 0.6 * (found.now[1] - found.now[0])
