"""Names and faults of the cockpit's keys: looked up as people spell them, every fault at once and before the run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hilsim.commands.main import simulate_main
from hilsim.describe.arrival_times import read_instants
from hilsim.describe.cockpit import AtTimes
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.sim.shared_chip import weights_on

GREEDY = "orin_8295_greedy"
POISSON = "{kind: poisson, per_hour: 20}"
CAMERA = "{name: camera, unit: npu, period_ms: 33, work: {ms: 2}}"


def loaded(*overrides: str, name: str = GREEDY) -> Setup:
    return load_setup(PROJECT / "scenarios" / f"{name}.yaml", overrides)


def faults(*overrides: str, name: str = GREEDY) -> str:
    with pytest.raises(InputError) as caught:
        loaded(*overrides, name=name)
    return str(caught.value)


def test_names_are_those_of_the_files():
    setup = loaded(
        "speech={recognition: {chip: DRIVE Orin X, unit: GPU, model: {shape: {gmacs: 1, parameters_m: 39}}},"
        " synthesis: {chip: sa8295p, unit: NPU, priority: 0}}",
        "background=[{name: camera, chip: SA8797P, unit: NPU, period_ms: 33, work: {ms: 2}},"
        " {name: display, period_ms: 16, gigabytes_per_s: 2}]",
        "links=[{link: 10GBASE-T1, between: [8295, 8797]}]",
        "sharing={weights: {GPU: 2.0, camera: 1.0}}",
    )
    speech = setup.scenario.speech
    assert speech is not None
    assert (speech.end_of_speech.chip, speech.end_of_speech.unit) == ("sa8295p", None)  # the target's, on no unit
    assert (speech.recognition.chip, speech.recognition.unit) == ("drive-orin-x", "gpu")
    assert (speech.synthesis.chip, speech.synthesis.unit) == ("sa8295p", "npu")
    assert [(task.chip, task.unit) for task in setup.scenario.background] == [("sa8797p", "npu"), ("sa8295p", None)]
    assert list(setup.chips) == ["sa8295p", "drive-orin-x", "sa8797p"]
    assert [(one.name, one.chips) for one in setup.links] == [
        ("pcie-gen3-x4", ("sa8295p", "drive-orin-x")),
        ("10gbase-t1", ("sa8295p", "sa8797p")),
    ]
    assert setup.scenario.sharing is not None
    assert setup.scenario.sharing.weights == {"gpu": 2.0, "camera": 1.0}


def test_a_weight_is_of_a_unit_on_all_chips_or_on_one():
    setup = loaded("sharing={weights: {GPU: 2, 8295/NPU: 3, DRIVE Orin X/gpu: 4}}")
    assert setup.scenario.sharing is not None
    assert setup.scenario.sharing.weights == {"gpu": 2, "sa8295p/npu": 3, "drive-orin-x/gpu": 4}
    target, draft = (weights_on(setup.scenario, setup.chips[name]) for name in ("sa8295p", "drive-orin-x"))
    assert (target["npu"], target["gpu"], draft["gpu"]) == (3, 2, 4)
    assert "sharing.weights.sa8797p/npu" in faults("sharing={weights: {sa8797p/npu: 2}}")


def test_a_second_link_of_a_kind_has_a_name_of_its_own():
    setup = loaded(
        "speech={recognition: {chip: sa8797p, unit: npu}, end_of_speech: {chip: sa8797p}}",
        "links=[{link: pcie-gen3-x4, between: [sa8295p, sa8797p]}]",
    )
    assert [one.name for one in setup.links] == ["pcie-gen3-x4", "pcie-gen3-x4-sa8295p-sa8797p"]


def test_a_scenario_without_the_keys_is_as_before():
    setup = loaded()
    assert not setup.scenario.company
    assert setup.further_chips == setup.further_links == ()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_arrival_files(tmp_path: Path, newline: str):
    lines = ["at_s,who", "# on the way to the lake", "0", "12.5,child", "", "12.5", '"60"']
    (tmp_path / "when.csv").write_text(newline.join(lines), encoding="utf-8", newline="")
    assert read_instants(tmp_path / "when.csv") == (0, 12.5, 12.5, 60)


def test_an_arrival_file_stands_in_the_scenario_as_its_instants(tmp_path: Path):
    file = tmp_path / "when.csv"
    file.write_text("1\n2\n", encoding="utf-8")
    passengers = f"passengers=[{{name: driver, arrivals: {{kind: times, file: {file}}}}}]"
    setup = loaded(passengers)
    arrivals = setup.scenario.passengers[0].arrivals
    assert isinstance(arrivals, AtTimes)
    assert (arrivals.at_s, arrivals.file) == ((1.0, 2.0), None)
    file.write_text("1\n3\n", encoding="utf-8")
    assert loaded(passengers).digest != setup.digest


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("1\n3\n2\n", "line 3", "2 after 3"),
        ("-1\n", "line 1", "-1, before the start"),
        ("1\nsoon\n", "line 2", "'soon'"),
        ("nan\n", "line 1", "'nan'"),
        ("1\n1_0\n", "line 2", "'1_0'"),
        ("1\n,2\n", "line 2", "''"),
        ("at_s\n", "", "no instants"),
    ],
)
def test_arrival_files_at_fault(tmp_path: Path, text: str, line: str, found: str):
    file = tmp_path / "when.csv"
    file.write_text(text, encoding="utf-8")
    message = faults(f"passengers=[{{name: driver, arrivals: {{kind: times, file: {file}}}}}]")
    assert f"{file}: {line}" in message if line else str(file) in message
    assert f"found {found}; expected seconds since the start" in message


CASES: dict[str, tuple[list[str], list[str]]] = {
    "a chip that is not there": (
        ["speech={recognition: {chip: sa9999}}"],
        ["speech.recognition.chip: found 'sa9999'"],
    ),
    "a unit that the chip lacks": (
        ["background=[{name: camera, unit: dsp, period_ms: 33, work: {ms: 2}}]"],
        ["background[0].unit: found 'dsp'; expected a unit of sa8295p: npu, gpu, cpu"],
    ),
    "a unit of a stage": (["speech={synthesis: {unit: dsp}}"], ["speech.synthesis.unit: found 'dsp'"]),
    "a precision that the unit lacks": (
        [
            "background=[{name: camera, unit: npu, period_ms: 33, work: {shape: {gmacs: 1, parameters_m: 1},"
            " precision: fp64}}]"
        ],
        ["background[0].work.precision: found 'fp64'"],
    ),
    "a shape on no unit": (
        ["speech={recognition: {model: {shape: {gmacs: 1, parameters_m: 1}}}}"],
        ["speech.recognition.model: found a shape on no unit"],
    ),
    "a cold start on a chip that does not say how long it takes": (
        ["target.chip=sa8775p", "trip={minutes: 1, cold_start: true}"],
        [
            "trip.cold_start: found true, and sa8775p has no flash_rate and no units.npu.start_up",
            "Add to the file of sa8775p: flash_rate: {value: ..., unit: GB/s",
        ],
    ),
    "a recogniser read from a flash of unknown rate": (
        [
            "trip={minutes: 1, cold_start: true}",
            "links=[{link: 1000base-t1, between: [sa8295p, agx-orin-64gb]}]",
            "speech={recognition: {chip: agx-orin-64gb, unit: gpu, model: {shape: {gmacs: 1, parameters_m: 39}}}}",
        ],
        ["trip.cold_start: found true, and agx-orin-64gb has no flash_rate; expected"],
    ),
    "a queue of one who asks after pauses": (
        ["passengers=[{name: child, arrivals: {kind: pauses, pause_s: 5}, queue_limit: 2}]"],
        ["passengers[0].queue_limit: found 2, of one who asks after pauses; expected none"],
    ),
    "two tasks of one name": ([f"background=[{CAMERA}, {CAMERA}]"], ["background: found camera twice"]),
    "a task named as a unit": (
        ["background=[{name: npu, unit: npu, period_ms: 33, work: {ms: 2}}]"],
        ["background[0].name: found 'npu', the name of a unit"],
    ),
    "a task named as a step": (
        ["background=[{name: verify, unit: npu, period_ms: 33, work: {ms: 2}}]"],
        ["background[0].name: found 'verify'"],
    ),
    "tasks in a cycle": (
        [
            "background=[{name: a, after: b, unit: npu, period_ms: 33, work: {ms: 2}},"
            " {name: b, after: a, unit: gpu, period_ms: 33, work: {ms: 2}}]"
        ],
        ["background[0].after: found a cycle, a after b after a; expected a first task, which comes after no other"],
    ),
    "a task after itself": (
        ["background=[{name: a, after: a, unit: npu, period_ms: 33, work: {ms: 2}}]"],
        ["background[0].after: found a cycle, a after a"],
    ),
    "a task after one that does not exist": (
        ["background=[{name: lanes, after: camrea, unit: npu, period_ms: 33, work: {ms: 2}}, " + CAMERA + "]"],
        ["background[0].after: found 'camrea'; expected a task: lanes, camera. Did you mean 'camera'?"],
    ),
    "a task after one of another period": (
        ["background=[{name: lanes, after: camera, unit: npu, period_ms: 40, work: {ms: 2}}, " + CAMERA + "]"],
        ["background[0].period_ms: found 40, after camera every 33 ms; expected the same period"],
    ),
    "two passengers of one name": (
        [f"passengers=[{{name: child, arrivals: {POISSON}}}, {{name: child, arrivals: {POISSON}}}]"],
        ["passengers: found child twice"],
    ),
    "talkers and passengers": (
        [f"passengers=[{{name: child, arrivals: {POISSON}}}]", "workload.talkers=2"],
        ["workload.talkers: found 2, with passengers"],
    ),
    "no link between neighbouring stages": (
        ["speech={recognition: {chip: sa8797p}, end_of_speech: {chip: sa8797p}}"],
        ["speech.recognition.chip: found sa8797p, which no link joins with sa8295p"],
    ),
    "a link from a chip to itself": (
        ["speech={}", "links=[{link: 10gbase-t1, between: [sa8295p, sa8295p]}]"],
        ["links[0].between: found sa8295p and itself, a cycle"],
    ),
    "a link to a chip that is not in use": (
        ["speech={}", "links=[{link: 10gbase-t1, between: [sa8295p, agx-thor]}]"],
        ["links[0].between: found 'agx-thor'; expected a chip in use"],
    ),
    "a second link between two chips": (
        ["speech={}", "links=[{link: 10gbase-t1, between: [sa8295p, drive-orin-x]}]"],
        ["links[0].between: found sa8295p and drive-orin-x, joined already"],
    ),
    "a link out of the car inside it": (
        [
            "speech={recognition: {chip: sa8797p}, end_of_speech: {chip: sa8797p}}",
            "links=[{link: cellular, between: [sa8295p, sa8797p]}]",
        ],
        ["links[0].link: found cellular, with its ends in the car"],
    ),
    "links without stages": (
        [f"background=[{CAMERA}]", "links=[{link: 10gbase-t1, between: [sa8295p, drive-orin-x]}]"],
        ["links: found 1, without speech"],
    ),
    "an unknown link": (["speech={}", "links=[{link: string, between: [a, b]}]"], ["links[0].link: found 'string'"]),
    "a weight of an unknown task": (
        [f"background=[{CAMERA}]", "sharing={weights: {camrea: 2.0}}"],
        ["sharing.weights.camrea: found 'camrea'", "Did you mean 'camera'?"],
    ),
    "an arrival file that is not there": (
        ["passengers=[{name: child, arrivals: {kind: times, file: gone.csv}}]"],
        ["gone.csv: found no such file"],
    ),
    "instants out of order": (
        ["passengers=[{name: child, arrivals: {kind: times, at_s: [2.0, 1.0]}}]"],
        ["passengers[0].arrivals", "instants 2, 1; expected seconds from 0 on, in order"],
    ),
    "questions after the trip": (
        ["passengers=[{name: child, arrivals: {kind: times, at_s: [600.0]}}]", "trip={minutes: 10}"],
        ["passengers[0].arrivals: found the first question at 600 s, in a trip of 600 s"],
    ),
    "some questions after the trip": (
        ["passengers=[{name: child, arrivals: {kind: times, at_s: [1, 600, 700]}}]", "trip={minutes: 10}"],
        ["passengers[0].arrivals.at_s: found 600, 700 s, in a trip of 600 s"],
    ),
    "a trip of none": (["trip={minutes: 10}"], ["trip: found a trip without passengers", "passengers, or no trip"]),
    "an empty list of passengers": (["passengers=[]"], ["passengers: found an empty list"]),
    "an interruption of nothing": (["speech={barge_in: {}}"], ["speech.barge_in: found neither share nor turns"]),
    "a batch on an NPU without a runtime": (["target.batch=3"], ["target.batch: found 3", "nothing says that an NPU"]),
    "interruptions of turns that do not exist": (
        ["speech={barge_in: {turns: [0, 4000]}}"],
        ["speech.barge_in.turns: found 4000; expected turns of the workload, 0 to "],
    ),
    "a turn interrupted twice": (["speech={barge_in: {turns: [1, 1]}}"], ["barge_in.turns: found 1 twice"]),
    "turns and a share of them": (
        ["speech={barge_in: {turns: [1], share: 0.1}}"],
        ["speech.barge_in: found both share and turns"],
    ),
    "a limit of what never happens": (
        ["speech={budget: {reaction_ms: 300}}"],
        ["speech.budget.reaction_ms: found a limit without barge_in"],
    ),
    "a preface beyond the context": (
        ["speech={prompt: {system_tokens: 700, tool_tokens: 400}}"],
        ["speech.prompt: found 1100 tokens (system 700, tool 400); expected fewer than context_tokens (1024)"],
    ),
    "streams beyond the memory": (
        ["background=[{name: display, period_ms: 16, gigabytes_per_s: 100}]"],
        ["background: found streams of 100 GB/s on sa8295p, a utilisation of 1.49"],
    ),
    "a start below the ambient temperature": (
        ["climate={ambient_c: 40, start_c: 20}"],
        ["climate", "start_c 20 below ambient_c 40"],
    ),
    "a period that no task has": (
        ["background=[{name: camera, unit: npu, period_ms: 0.001, work: {ms: 0.0001}}]"],
        ["background[0].period_ms", "at least 0.1"],
    ),
    "speech slower than anyone's": (
        ["speech={playback: {words_per_s: 0.01}}"],
        ["playback.words_per_s", "at least 0.1"],
    ),
    "a speech of hours": (
        [
            "speech={}",
            "context_tokens=100000",
            "workload={requests: 2, prompt_tokens: 60000, output_tokens: 8}",
            "logits={source: synthetic, acceptance: 0.7}",
            "speech.playback.tokens_per_word=1",
        ],
        ["speech.playback: found a question of 60000 words, 6.67 h at 2.5 words a second; expected an hour at most"],
    ),
    "a negative arrival rate": (
        ["passengers=[{name: child, arrivals: {kind: poisson, per_hour: -1}}]"],
        ["passengers[0].arrivals.per_hour", "at least 0.001"],
    ),
    "a negative capacity": (
        [f"background=[{CAMERA}]", "sharing={weights: {npu: -1}}"],
        ["sharing.weights.npu", "more than 0"],
    ),
    "a budget beside the speech": (["budget={first_audio_ms: 1000}"], ["budget", "belongs in the block speech"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_named_with_its_place(case: str):
    overrides, expected = CASES[case]
    message = faults(*overrides)
    for part in expected:
        assert part in message


def test_all_faults_come_at_once():
    message = faults(
        f"background=[{CAMERA}, {CAMERA}, {{name: display, unit: dsp, period_ms: 16, work: {{ms: 1}}}}]",
        f"passengers=[{{name: child, arrivals: {POISSON}}}, {{name: child, arrivals: {POISSON}}}]",
        "speech={recognition: {chip: sa9999}, prompt: {system_tokens: 2000}, barge_in: {turns: [5000]}}",
        "target.unit=tpu",
    )
    wanted = ["camera twice", "'dsp'", "child twice", "'sa9999'", "2000 tokens", "5000", "'tpu'"]
    # What stands on the target waits until that one is found.
    found = faults(
        f"background=[{CAMERA}, {CAMERA}, {{name: display, unit: dsp, period_ms: 16, work: {{ms: 1}}}}]",
        f"passengers=[{{name: child, arrivals: {POISSON}}}, {{name: child, arrivals: {POISSON}}}]",
        "speech={recognition: {chip: sa9999}, prompt: {system_tokens: 2000}, barge_in: {turns: [5000]}}",
    )
    assert "'tpu'" in message
    assert all(part in found for part in wanted[:-1])


def test_names_are_looked_up_where_the_scenario_is_at_fault_elsewhere():
    message = faults("sede=1", "speech={synthesis: {chip: sa9999}}", "background=[{name: camera, chip: sa9998}]")
    assert "speech.synthesis.chip: found 'sa9999'" in message
    assert "background[0].chip: found 'sa9998'" in message
    assert "sede" in message


@pytest.mark.parametrize("at_fault", ["climate={ambient_c: 40, start_c: 20}", "trip={minutes: -1}", "sharing={by: 1}"])
def test_a_block_that_is_at_fault_hides_no_other(at_fault: str):
    """Units, and what does not go together, are found as if the block were not there."""
    message = faults(
        at_fault,
        "speech={recognition: {unit: tpu}, prompt: {system_tokens: 2000}, barge_in: {turns: [5000]}}",
        f"background=[{CAMERA}, {CAMERA}]",
    )
    for part in (at_fault.partition("=")[0], "'tpu'", "2000 tokens", "5000", "camera twice"):
        assert part in message


def test_units_are_looked_up_where_passengers_are_at_fault():
    message = faults(
        "passengers=[{name: child, arrivals: {kind: poisson, per_hour: -1}}]", "speech={synthesis: {unit: tpu}}",
        "background=[{name: display, unit: dsp, chip: drive-orin-x, period_ms: 16, work: {ms: 1}}]",
    )  # fmt: skip
    for part in ("per_hour", "speech.synthesis.unit: found 'tpu'", "background[0].unit: found 'dsp'"):
        assert part in message


def test_a_fault_ends_with_status_2_and_no_output(capsys: pytest.CaptureFixture[str]):
    arguments = [str(PROJECT / "scenarios" / f"{GREEDY}.yaml"), "--set", f"background=[{CAMERA}, {CAMERA}]"]
    assert simulate_main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert re.search(r"background: found camera twice; expected a name for each task", streams.err)
