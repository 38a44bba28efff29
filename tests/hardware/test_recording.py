"""Recordings: what is written is what is read, damage shows, and a chip that answers from one says what was said."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hilsim.errors import InputError
from hilsim.hardware.recordings.entries import Entry, Use
from hilsim.hardware.recordings.interpolated import Durations
from hilsim.hardware.recordings.recorded import RecordedChip, UnseenStep
from hilsim.hardware.recordings.recorder import Recorder
from hilsim.hardware.recordings.recording import (
    Recording,
    entries_of,
    linked,
    prefix_digests,
    read_recording,
    tensors_of,
    with_chain,
)
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.places import CODE as PROJECT
from tests.hardware_fakes import BOARD, FACTS, VOCABULARY, Toy, row, rows

TALK = (3, 1, 4, 1, 5, 9, 2, 6)
ASKS = [
    StepRequest("toy", "prefill", TALK[:4], 0, 1, "logits"),
    StepRequest("toy", "verify", TALK[:7], 4, 3, "logits"),
    StepRequest("toy", "draft", TALK[:5], 4, 1, "tokens"),
    StepRequest("toy", "draft", TALK[:6], 5, 1, "nothing"),
]


def recorder_of(file: Path) -> Recorder:
    return Recorder(
        file,
        unit="toy/gpu",
        scenario="abc",
        address="tcp://127.0.0.1:7295",
        facts=BOARD,
        models={"target": FACTS},
        settings={"warm_up": 3, "repeats": 1},
        began=datetime(2026, 1, 2, tzinfo=UTC),
    )


def record(file: Path, asks: Sequence[StepRequest] = ASKS, chip: Toy | None = None) -> list[StepResult]:
    """A session with a toy's answers."""
    chip = chip or Toy()
    answers = [chip.execute(ask) for ask in asks]
    with recorder_of(file) as recorder:
        for ask, answer in zip(asks, answers, strict=True):
            recorder.add("target", ask, answer, "said")
    return answers


def same(one: StepResult, other: StepResult) -> bool:
    """Whether answers agree in every figure."""
    alike = one.rows is None and other.rows is None
    if one.rows is not None and other.rows is not None:
        alike = np.array_equal(one.rows, other.rows)
    fields = ("duration_ns", "ids", "wall_ns", "prepared_rows", "energy_mj", "temperature_c", "clock_ns", "at_ns")
    return alike and all(getattr(one, name) == getattr(other, name) for name in fields)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    answers = record(file)
    with recorder_of(file) as recorder:
        recorder.add("draft", ASKS[0], AgentFault("stalled", "nothing at all for 3 s"), "warm-up")
    recording = read_recording(file)
    assert recording.torn is None
    assert [session.header.session for session in recording.sessions] == [1, 2]
    header = recording.sessions[0].header
    assert (header.unit, header.scenario, header.device, header.settings["warm_up"]) == (
        "toy/gpu", "abc", {"name": "rig"}, 3,
    )  # fmt: skip
    assert header.began == "2026-01-02T00:00:00+00:00"
    assert recording.models() == {"toy": FACTS}
    entries = recording.sessions[0].entries
    assert [entry.entry for entry in entries] == [0, 1, 2, 3]
    for entry, ask, answer in zip(entries, ASKS, answers, strict=True):
        assert (entry.phase, entry.cached, entry.rows, entry.want) == (ask.phase, ask.cached, ask.rows, ask.want)
        assert (entry.tokens, entry.duration_ns) == (ask.tokens[ask.cached :], answer.duration_ns)
        array = recording.array(entry)
        expected = answer.rows if answer.ids is None else np.array(answer.ids)
        assert (array is None) == (expected is None)
        if array is not None:
            np.testing.assert_array_equal(array, expected)
    (broken,) = recording.sessions[1].entries
    assert broken.fault is not None
    assert (broken.fault.kind, broken.fault.found, broken.use) == ("stalled", "nothing at all for 3 s", "warm-up")


def test_prefixes_are_those_of_the_wanted_rows() -> None:
    """The digest of a row is that of a conversation which ends there."""
    assert prefix_digests(TALK, 3) == tuple(prefix_digests(TALK[:end], 1)[0] for end in (6, 7, 8))
    assert prefix_digests(TALK, 0) == prefix_digests(TALK, 1)
    assert len(prefix_digests(TALK, len(TALK))) == len(TALK)


def test_the_same_numbers_are_kept_once_a_session(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file, [ASKS[0]] * 5)
    assert tensors_of(file).stat().st_size == 4 * VOCABULARY
    record(file, [ASKS[0]] * 5)
    assert tensors_of(file).stat().st_size == 2 * 4 * VOCABULARY
    assert len(list(entries_of(read_recording(file)))) == 10


def test_a_chain_is_what_its_definition_says(tmp_path: Path) -> None:
    """By hand: SHA-256 of the chain before and the line without its chain."""
    file = tmp_path / "board.jsonl"
    record(file)
    chain = ""
    for line in file.read_bytes().splitlines():
        told = json.loads(line).pop("chain")
        body = re.sub(rb',"chain":"[0-9a-f]{64}"}$', b"}", line)
        chain = linked(chain, body)
        assert chain == told


@pytest.mark.parametrize("cut", [1, 2, 60, 200])
def test_a_torn_last_line_is_left_out_and_reported(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "board.jsonl"
    record(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    recording = read_recording(file)
    assert len(recording.sessions[0].entries) == len(ASKS) - 1
    assert recording.torn is not None
    assert "line 5: half written" in recording.torn
    with recorder_of(file) as recorder:
        assert len(recorder.notes) == 1
        assert "moved to" in recorder.notes[0]
        recorder.add("target", ASKS[3], Toy().execute(ASKS[3]), "said")
    last = whole.splitlines(keepends=True)[-1]
    assert (tmp_path / "board.jsonl.torn").read_bytes() == last[:-cut]
    again = read_recording(file)
    assert again.torn is None
    assert [len(session.entries) for session in again.sessions] == [3, 1]


def test_a_recorder_killed_at_any_byte_loses_at_most_its_last_line(tmp_path: Path) -> None:
    """All ways to end: every length of the file is a recording with as many answers as whole lines."""
    file, cut = tmp_path / "board.jsonl", tmp_path / "cut.jsonl"
    record(file)
    data = file.read_bytes()
    tensors_of(cut).write_bytes(tensors_of(file).read_bytes())
    for length in range(data.index(b"\n") + 1, len(data), 7):
        cut.write_bytes(data[:length])
        recording = read_recording(cut)
        assert len(recording.sessions[0].entries) == data[:length].count(b"\n") - 1
        assert (recording.torn is None) == data[:length].endswith(b"\n")


def test_a_recorder_killed_before_its_first_line_was_whole_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file)
    data = file.read_bytes()
    for length in (1, 13, 100):
        file.write_bytes(data[:length])
        with recorder_of(file) as recorder:
            assert recorder.notes
        assert len(read_recording(file).sessions) == 1


KILLED = """
import sys
from pathlib import Path
from tests.hardware.test_recording import recorder_of, ASKS
from tests.hardware_fakes import Toy
recorder, chip = recorder_of(Path(sys.argv[1])), Toy()
for number in range(10**6):
    ask = ASKS[number % len(ASKS)]
    recorder.add("target", ask, chip.execute(ask), "said")
    print(number, flush=True)
"""


def test_what_was_answered_before_kill_9_is_there(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 40:
                os.kill(process.pid, signal.SIGKILL)
                break
    entries = list(entries_of(read_recording(file)))
    assert len(entries) >= 41
    with recorder_of(file) as recorder:  # nobody holds the file any more
        recorder.add("target", ASKS[0], Toy().execute(ASKS[0]), "said")
    assert len(list(entries_of(read_recording(file)))) == len(entries) + 1


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    with recorder_of(file), pytest.raises(InputError, match="another process is writing; expected one writer"):
        recorder_of(file)
    recorder_of(file).close()
    assert len(read_recording(file).sessions) == 2
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            recorder_of(file)


def fill(recorder: Recorder, ask: StepRequest) -> None:
    """Record more than there is room for."""
    for _ in range(20):
        recorder.add("target", ask, Toy().execute(ask), "said")


def test_a_full_disk_is_reported_and_leaves_no_half_line(tmp_path: Path) -> None:
    """A limit on the size of files does what a full disk does: a line that does not fit is taken back."""
    file = tmp_path / "board.jsonl"
    recorder = recorder_of(file)
    ask = StepRequest("toy", "draft", TALK[:5], 4, 1, "nothing")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        with pytest.raises(InputError, match=r"board\.jsonl: found file too large; expected a file that can be"):
            fill(recorder, ask)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    recorder.add("target", ask, Toy().execute(ask), "said")
    recorder.close()
    recording = read_recording(file)
    assert recording.torn is None
    assert [entry.entry for entry in entries_of(recording)] == list(range(recorder.entries))


def test_what_is_no_recording_is_left_alone(tmp_path: Path) -> None:
    for name, data in (("notes.txt", b"dear diary\n"), ("other.json", b"[1, 2]"), ("line.json", b'{"a": 1}\n')):
        file = tmp_path / name
        file.write_bytes(data)
        for do in (read_recording, recorder_of):
            with pytest.raises(InputError, match=r"found a file that begins with .*; expected a recording"):
                do(file)
        assert file.read_bytes() == data
    with pytest.raises(InputError, match="no such file"):
        read_recording(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        recorder_of(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="an empty file"):
        read_recording(tmp_path / "empty.jsonl")


def faults_of(file: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_recording(file)
    return [f"{fault.place}: {fault.found}" for fault in caught.value.faults]


def test_every_change_shows(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file)
    data, numbers = file.read_bytes(), tensors_of(file).read_bytes()
    lines = data.splitlines(keepends=True)
    quicker = [line.replace(b'"duration_ns":', b'"duration_ns":9') for line in lines]
    for changed, place in (
        ([*lines[:2], quicker[2], *lines[3:]], "line 3"),
        ([*lines[:2], *lines[3:]], "line 3"),
        ([lines[0], lines[2], lines[1], *lines[3:]], "line 2"),
        ([lines[0], lines[1], *lines[1:]], "line 3"),
    ):
        file.write_bytes(b"".join(changed))
        assert any(fault.startswith(f"{place}: a line that its digest") for fault in faults_of(file))
        with pytest.raises(InputError):
            recorder_of(file)
    file.write_bytes(b"".join(lines[1:]))
    assert faults_of(file) == [': a file that begins with b\'{"entry":0,"r\'']
    file.write_bytes(b"".join([lines[0], quicker[1], lines[2], quicker[3], lines[4]]))
    assert [fault[:6] for fault in faults_of(file)] == ["line 2"]  # what stands before the first change is whole
    file.write_bytes(data)
    tensors_of(file).write_bytes(numbers[:50] + bytes([numbers[50] ^ 1]) + numbers[51:])
    assert "another digest" in faults_of(file)[0]
    tensors_of(file).write_bytes(numbers[:-1])
    assert "a tensor up to byte" in faults_of(file)[0]


def complaint_of(file: Path) -> str:
    """The one line that is told of a file."""
    with pytest.raises(InputError) as caught:
        read_recording(file)
    (fault,) = caught.value.faults
    return str(fault).removeprefix(f"{file}")


KEEP = (
    "Copy it again from where it was recorded, or keep the lines before, which are intact "
    "(head -n {} FILE > NEW; cp FILE.tensors NEW.tensors)."
)


def test_one_cause_is_one_line_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file, ASKS * 2)
    data, numbers = file.read_bytes(), tensors_of(file).read_bytes()
    lines = data.splitlines(keepends=True)

    def told_of(*changed: bytes) -> str:
        file.write_bytes(b"".join(changed))
        return complaint_of(file)

    changed = "found a line that its digest does not confirm; expected the file as it was recorded"
    for lines_now, line in (
        ([*lines[:3], lines[4], lines[3], *lines[5:]], 4),
        ([*lines[:3], lines[3][:-90] + b"\n", *lines[4:]], 4),
        ([lines[0], *(one.replace(b"toy", b"tOy") for one in lines[1:])], 2),
        ([lines[0].replace(b"toy", b"tOy", 1), *lines[1:]], 1),
        ([data, data], 10),
    ):
        assert told_of(*lines_now).startswith(f": line {line}: {changed}. Copy it again")
    assert told_of(*lines[:3], lines[4]) == f": line 4: {changed}. {KEEP.format(3)}"
    assert told_of(data.replace(b"\n", b"\r\n")) == (
        ": line 1: found a line that ends in CR LF; expected the recorder's line ends, LF alone. "
        "A program that takes it for text has changed it: copy it and its .tensors again, as binary files."
    )
    assert told_of(data.replace(b'"recording":1', b'"recording":2', 1)) == (
        ": line 1: found a recording of another version (2); expected version 1. "
        "Read it with the hilsim that wrote it, or record it again."
    )
    assert "found unit: " in told_of(*forged_lines(lines, {"unit": 5}, 1))
    file.write_bytes(data)
    tensors_of(file).write_bytes(bytes(len(numbers)))
    assert complaint_of(file).startswith(
        ": line 2: found a tensor at byte 0 of board.jsonl.tensors with another digest; expected"
    )
    tensors_of(file).write_bytes(numbers[:-1])
    assert complaint_of(file).endswith(
        f"; expected at most {len(numbers) - 1}, which is where that file ends. {KEEP.format(3)}"
    )
    tensors_of(file).unlink()
    assert complaint_of(file) == (
        ".tensors: found no such file; expected the tensors of board.jsonl. Copy it beside board.jsonl."
    )


def test_what_precedes_a_change_is_kept_as_the_remedy_states(tmp_path: Path) -> None:
    file, kept = tmp_path / "FILE", tmp_path / "NEW"
    record(file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"rows":', b'"rows":9'), *lines[4:]]))
    command = complaint_of(file).partition("intact (")[2].removesuffix(").")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert len(list(entries_of(read_recording(kept)))) == 2


def test_settings_are_numbers_and_words_and_old_ones_are_read(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    settings: dict[str, int | float | str] = {"warm_up": 3, "timeout_ms": 25.5, "on_fault": "simulated"}
    header = {"unit": "toy/gpu", "scenario": None, "address": "", "facts": BOARD, "models": {"target": FACTS}}
    Recorder(file, **header, settings=settings).close()  # type: ignore[arg-type]
    found = read_recording(file).sessions[0].header.settings
    assert found == settings
    assert [type(value) for value in found.values()] == [int, float, str]


def forged(file: Path, changes: dict[str, object], line: int = 2) -> None:
    """A recording with one line changed by somebody who makes the chain anew."""
    record(file)
    file.write_bytes(b"".join(forged_lines(file.read_bytes().splitlines(), changes, line)))


def forged_lines(lines: Sequence[bytes], changes: dict[str, object], line: int) -> list[bytes]:
    """Lines with one of them changed, and a chain made anew."""
    chain, made = "", []
    for number, text in enumerate(lines, 1):
        said = json.loads(text)
        del said["chain"]
        said |= changes if number == line else {}
        body = json.dumps(said, separators=(",", ":")).encode()
        chain = linked(chain, body)
        made.append(with_chain(body, chain))
    return made


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"duration_ns": 0}, "duration_ns"), ({"duration_ns": None}, "neither a duration"), ({"rows": 3}, "tokens or dig"),
     ({"want": "tokens"}, "of a step with want"), ({"tensor": None}, "no tensor"), ({"use": "x"}, "use"),
     ({"fault": {"kind": "died", "found": ""}}, "neither a duration nor a fault, or both"), ({"more": 1}, "more"),
     ({"prefix": "x"}, "prefix"), ({"cached": "1"}, "cached"), ({"tokens": [1, 2, 3, 4.5]}, "tokens")],
    ids=str,
)  # fmt: skip
def test_lines_that_cannot_be_are_reported_by_key(tmp_path: Path, changes: dict[str, object], found: str) -> None:
    file = tmp_path / "board.jsonl"
    forged(file, changes)
    assert any(fault.startswith("line 2") and found in fault for fault in faults_of(file))


def test_a_recording_of_another_version_is_reported_as_that(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    forged(file, {"recording": 2}, line=1)
    assert faults_of(file) == ["line 1: a recording of another version (2)"]


def chip_of(file: Path, unseen: str = "refuse") -> RecordedChip:
    return RecordedChip(read_recording(file), "interpolate" if unseen == "interpolate" else "refuse")


def test_a_recorded_chip_answers_as_the_chip_did(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    answers = record(file)
    chip = chip_of(file)
    assert chip.load("toy") == FACTS
    assert chip.settings == {"warm_up": 3, "repeats": 1}
    for ask, answer in zip(ASKS, answers, strict=True):
        assert same(chip.execute(ask), answer)
    chip.close()
    with pytest.raises(AgentFault, match="refused: no model 'other'"):
        chip.load("other")


def test_the_n_th_time_gets_the_n_th_answer_the_last_session_first(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    older = record(file, [ASKS[0]] * 2)
    newer = record(file, [ASKS[0]] * 2, Toy(asked=[ASKS[0]] * 10))
    chip = chip_of(file)
    found = [chip.execute(ASKS[0]).duration_ns for _ in range(6)]
    told = [answer.duration_ns for answer in (*newer, *older)]
    assert found == [*told, *told[:2]]
    assert len(set(told)) == 4


def test_recorded_faults_come_again_where_they_came(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    ask, chip = ASKS[1], Toy()
    with recorder_of(file) as recorder:
        recorder.add("target", ask, chip.execute(ask), "said")
        recorder.add("target", ask, AgentFault("died", "it closed the connection"), "said")
        recorder.add("target", ask, chip.execute(ask), "said")
    replay = chip_of(file)
    first = replay.execute(ask).duration_ns
    with pytest.raises(AgentFault, match="died: it closed the connection"):
        replay.execute(ask)
    assert replay.execute(ask).duration_ns == first + 1


def test_tokens_are_assembled_from_other_steps(tmp_path: Path) -> None:
    """Rows after 5, 6 and 7 tokens were said in one verify; another policy asks for those after 6 and 7 alone."""
    file = tmp_path / "board.jsonl"
    record(file, [ASKS[0], ASKS[1]])
    other = StepRequest("toy", "verify", TALK[:7], 5, 2, "logits")
    answer = chip_of(file, "interpolate").execute(other)
    np.testing.assert_array_equal(answer.rows, rows(other))
    tokens = chip_of(file, "interpolate").execute(StepRequest("toy", "draft", TALK[:6], 5, 1, "tokens"))
    assert tokens.ids == (int(row(TALK[:6]).argmax()),)
    record(tmp_path / "named.jsonl", [ASKS[2]])
    named = StepRequest("toy", "draft", TALK[:5], 3, 1, "tokens")
    record(tmp_path / "named.jsonl", [StepRequest("toy", "draft", TALK[:5], 2, 1, "nothing")])
    assert chip_of(tmp_path / "named.jsonl", "interpolate").execute(named).ids == (int(row(TALK[:5]).argmax()),)
    mixed = StepRequest("toy", "verify", TALK[:7], 3, 4, "logits")
    np.testing.assert_array_equal(chip_of(file, "interpolate").execute(mixed).rows, rows(mixed))


def test_an_unseen_step_is_refused_with_what_is_nearest(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file, [ASKS[0], ASKS[1]])
    other = StepRequest("toy", "verify", TALK[:7], 5, 2, "logits")
    with pytest.raises(UnseenStep) as caught:
        chip_of(file).execute(other)
    assert str(caught.value) == (
        "toy/gpu: found verify of 2 rows after 5 cached (model toy, want logits), whose duration is not in the "
        "recording; expected a step of the recording (nearest: verify of 3 rows after 4 cached, 0.003 ms). "
        "Record this policy too, or set unseen: interpolate."
    )
    for unseen in ("refuse", "interpolate"):
        with pytest.raises(
            UnseenStep, match=r"whose tokens are not in the recording.*in another conversation.*words: stand_in"
        ):
            chip_of(file, unseen).execute(StepRequest("toy", "verify", (9, 9, 9, 9, 9, 9, 9), 4, 3, "logits"))
        with pytest.raises(UnseenStep, match="none of model other"):
            chip_of(file, unseen).execute(StepRequest("other", "draft", (1,), 0, 1, "tokens"))
    record(tmp_path / "one.jsonl", [ASKS[3]])
    alone = chip_of(tmp_path / "one.jsonl", "interpolate")
    with pytest.raises(UnseenStep, match="outside the range of the recorded steps"):
        alone.execute(StepRequest("toy", "prefill", (1,) * 9, 0, 1, "nothing"))


def entry_of(rows: int, cached: int, duration_ns: int, use: Use = "said") -> Entry:
    """A timed step."""
    return Entry(
        entry=0, role=None, model="toy", phase="verify", cached=cached, rows=rows, wanted=1, want="nothing",
        prefix="0" * 64, before=(), tokens=(0,) * rows, duration_ns=duration_ns, wall_ns=0, prepared_rows=0,
        energy_mj=None, temperature_c=None, clock_ns=0, at_ns=0, use=use, tensor=None, fault=None,
    )  # fmt: skip


def test_interpolation_is_arithmetic() -> None:
    """Medians at (1, 0) = 100, (1, 100) = 200, (4, 0) = 400, (4, 50) = 500; everything else follows."""
    entries = [
        entry_of(1, 0, 100), entry_of(1, 0, 90), entry_of(1, 0, 4000, "repeat"), entry_of(1, 0, 9999, "warm-up"),
        entry_of(1, 100, 200), entry_of(4, 0, 400), entry_of(4, 50, 500),
    ]  # fmt: skip
    durations = Durations(entries, {"toy": FACTS})
    expected = {
        (1, 0): 100, (1, 50): 150, (1, 100): 200, (1, 1000): 200, (4, 25): 450, (4, 1000): 500,
        (2, 0): 200,  # a third of the way from 100 to 400
        (3, 50): 384,  # two thirds of the way from 150 to 500, rounded up
        (6, 0): 600,  # 100 a row beyond the last
        (6, 100): 700,  # from 200 to 500 in three rows
    }  # fmt: skip
    assert {shape: durations.duration_ns("toy", *shape) for shape in expected} == expected
    assert durations.duration_ns("other", 1, 0) is None


def test_fewer_rows_than_recorded_take_what_the_fewest_took_and_more_never_less() -> None:
    falling = Durations([entry_of(4, 0, 400), entry_of(8, 0, 300)], {"toy": FACTS})
    assert [falling.duration_ns("toy", rows, 0) for rows in (1, 4, 6, 8, 99)] == [400, 400, 350, 300, 300]
    alone = Durations([entry_of(4, 0, 400)], {"toy": FACTS})
    assert [alone.duration_ns("toy", rows, 0) for rows in (1, 4, 5)] == [400, 400, None]


def test_compiled_widths_are_looked_up_whole() -> None:
    """Widths 1, 8 and 32: 3 rows are an 8, 40 rows a 32 and an 8, and 33 rows a 32 and a 1."""
    compiled = ModelFacts("toy", VOCABULARY, 64, (1, 8, 32), ("tokens",))
    steps = [entry_of(1, 0, 10), entry_of(5, 0, 80), entry_of(20, 0, 320), entry_of(33, 0, 330)]
    durations = Durations(steps, {"toy": compiled})
    found = {rows: durations.duration_ns("toy", rows, 0) for rows in (1, 2, 3, 8, 9, 32, 33, 40)}
    assert found == {1: 10, 2: 80, 3: 80, 8: 80, 9: 320, 32: 320, 33: 330, 40: 400}


def test_an_interpolated_duration_is_what_the_answer_takes(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    timed = [StepRequest("toy", "verify", TALK[:4] + (0,) * rows, 4, 1, "nothing") for rows in (1, 3)]
    first, second = (answer.duration_ns for answer in record(file, timed))
    answer = chip_of(file, "interpolate").execute(StepRequest("toy", "verify", TALK[:6], 4, 1, "nothing"))
    assert answer.duration_ns == -(-(first + second) // 2)


def test_recordings_are_read_without_their_numbers_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "board.jsonl"
    record(file)
    recording: Recording = read_recording(file)
    assert isinstance(recording.tensors, np.memmap)
    array = recording.array(recording.sessions[0].entries[0])
    assert array is not None
    assert array.base is not None
