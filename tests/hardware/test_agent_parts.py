"""What comes with the agent: sensors, digests, the engines for checkpoints and for programs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hilsim.errors import InputError
from hilsim.files import weights_digest
from hilsim.hardware.agent.checkpoint import Checkpoint
from hilsim.hardware.agent.digests import tokenizer_digest
from hilsim.hardware.agent.engine import EngineFacts, Output
from hilsim.hardware.agent.sensors import Sensors
from hilsim.hardware.agent.subprocess_engine import RuntimeFault, Subprocess
from hilsim.networks.checkpoint import load_weights
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import KVCache, load_network
from hilsim.places import CODE as PROJECT

NOWHERE = Path("/nowhere")
DRAFT = PROJECT / "models" / "draft-0.2m"


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    return root


def test_the_warmest_plausible_zone_counts(tmp_path: Path) -> None:
    zones = {0: 45_500, 1: 61_250, 2: -256_000, 3: 990_000}
    sensors = Sensors(tree(tmp_path, {f"class/thermal/thermal_zone{n}/temp": value for n, value in zones.items()}))
    assert sensors.temperature_c() == 61.25
    (tmp_path / "class/thermal/thermal_zone1/temp").write_text("70000\n")
    assert sensors.temperature_c() == 61.25  # one reading serves half a second
    sensors._read_ns = -(10**10)
    assert sensors.temperature_c() == 70
    sensors.close()


def test_energy_is_what_the_packages_counters_gained_round_their_end(tmp_path: Path) -> None:
    rapl = "class/powercap/intel-rapl"
    root = tree(tmp_path, {
        f"{rapl}:0/name": "package-0", f"{rapl}:0/energy_uj": 1000, f"{rapl}:0/max_energy_range_uj": 10_000,
        f"{rapl}:1/name": "package-1", f"{rapl}:1/energy_uj": 9000, f"{rapl}:1/max_energy_range_uj": 10_000,
        f"{rapl}:2/name": "psys", f"{rapl}:2/energy_uj": 0, f"{rapl}:2/max_energy_range_uj": 10_000,
        f"{rapl}:0:0/name": "core", f"{rapl}:0:0/energy_uj": 0, f"{rapl}:0:0/max_energy_range_uj": 10_000,
    })  # fmt: skip
    sensors = Sensors(root)
    before = sensors.before()
    tree(root, {f"{rapl}:0/energy_uj": 3500, f"{rapl}:1/energy_uj": 500, f"{rapl}:2/energy_uj": 9})
    assert sensors.energy_mj(before, 1) == 2.5 + 1.5
    sensors.close()


def test_energy_of_a_jetson_is_the_boards_mean_power_times_the_pass(tmp_path: Path) -> None:
    chip = "class/hwmon/hwmon3"
    files = {f"{chip}/name": "ina3221"}
    for channel, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        files |= {f"{chip}/in{channel}_label": label, f"{chip}/in{channel}_input": "5000",
                  f"{chip}/curr{channel}_input": "1000"}  # fmt: skip
    sensors = Sensors(tree(tmp_path, files | {"class/hwmon/hwmon0/name": "nvme"}))
    before = sensors.before()
    tree(tmp_path, {f"{chip}/curr1_input": 3000})
    assert sensors.energy_mj(before, 2_000_000) == 20.0  # (5 W + 15 W) / 2 for 2 ms, in mJ
    sensors.close()


def test_boards_without_sensors_and_sensors_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    tree(tmp_path, {"class/thermal/thermal_zone0/temp": "off", "class/hwmon/hwmon0/name": "ina3221"})
    for sensors in (Sensors(tmp_path), Sensors(NOWHERE)):
        assert sensors.temperature_c() is None
        assert sensors.energy_mj(sensors.before(), 5) is None


def test_a_checkpoint_computes_what_the_decoder_computes() -> None:
    engine = Checkpoint(DRAFT)
    facts = engine.load()
    assert (facts.vocabulary, facts.context, facts.widths, facts.logits) == (2048, 1024, None, True)
    decoder = Decoder(load_weights(DRAFT), 64)
    tokens = [1, 3, 700, 12, 9, 2047]
    expected = np.stack(decoder.feed(tokens, 3))
    engine.prefill(tokens[:2])
    np.testing.assert_allclose(engine.step(tokens[2:], 3).logits, expected, rtol=1e-4, atol=1e-4)
    engine.rewind(2)
    np.testing.assert_allclose(engine.step(tokens[2:], 3).logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(engine.prefill(tokens).logits, expected[-1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 5])
def test_all_that_a_pass_computes_lies_on_the_engines_device(rows: int) -> None:
    """PyTorch's device without memory refuses whatever lies elsewhere, as a CUDA device would."""
    engine = Checkpoint(DRAFT)
    engine.place = torch.device("meta")
    network = load_network(DRAFT).to(engine.place)
    with engine.place:
        cache = KVCache(engine.config, 32)
    tokens = torch.zeros((1, rows), dtype=torch.int64, device=engine.place)
    with torch.inference_mode():
        logits = network(tokens, cache, last_rows=rows)
    assert (logits.device.type, tuple(logits.shape)) == ("meta", (1, rows, 2048))


def test_digests_tell_tokenizers_and_weights_apart() -> None:
    folders = [PROJECT / "models" / name for name in ("draft-0.2m", "draft-2m", "target")]
    assert len({tokenizer_digest(folder) for folder in folders}) == 1
    assert len({weights_digest(folder) for folder in folders}) == 3
    assert tokenizer_digest(NOWHERE) is None
    assert weights_digest(NOWHERE) is None


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<x>"}]}', True),
        ('{"model": {"vocab": {"b": 1, "a": 0, "<x>": 2}}}', True),
        ('{"model": {"vocab": [["a", -1.0], ["b", -2.0], ["<x>", 0]]}}', True),
        ('{"model": {}}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_a_vocabulary_has_one_digest_however_it_is_written(tmp_path: Path, text: str, known: bool) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    same = "ff" if not known else tokenizer_digest(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 1, "<x>": 2}}}')
    assert (tokenizer_digest(tmp_path) == same) is known


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "npu"}, "cpu, cuda or cuda:N"),
        ({"threads": "0"}, "--threads: 0"),
        ({"context": "many"}, "--option context: many"),
    ],
)
def test_options_of_checkpoints_are_checked(changes: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Checkpoint(DRAFT, **changes)
    assert Checkpoint(DRAFT, context="100").context == 100


RUNTIME = """
import json, os, sys, time
for line in sys.stdin:
    question = json.loads(line)
    last = question.get("tokens", [0])[-1]
    if last == 50: os._exit(7)
    if last == 51: os.kill(os.getpid(), 9)
    if last == 52: time.sleep(60)
    if last == 53: print("a word of the vendor's"); sys.stdout.flush(); continue
    if last == 54: print(json.dumps({"error": "no memory"}), flush=True); continue
    answers = {"load": {"vocabulary": 64, "context": 32}, "prefill": {"ids": [last], "duration_ns": 5},
               "step": {"logits": [[0.0] * 63 + [float(last)]] * question.get("wanted", 1)}}
    print(json.dumps(answers.get(question["do"], {})), flush=True)
"""


def runtime(tmp_path: Path, timeout: str = "20") -> Subprocess:
    (tmp_path / "runtime.py").write_text(RUNTIME)
    engine = Subprocess(tmp_path, command=f"{sys.executable} {{model}}/runtime.py", timeout=timeout)
    assert engine.load() == EngineFacts(64, 32, logits=False)
    return engine


def test_a_program_behind_a_pipe(tmp_path: Path) -> None:
    engine = runtime(tmp_path)
    assert engine.prefill([1, 2]) == Output(ids=[2], duration_ns=5)
    assert list(engine.step([3], 2).logits) == ([0.0] * 63 + [3.0]) * 2
    process = engine.process
    engine.close()
    assert process is not None
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("token", "words"),
    [(50, "ended with exit status 7 at 'step'"), (51, "ended by SIGKILL at 'step'"),
     (52, "did not answer 'step' in time"), (53, "which is no JSON object"), (54, "no memory")],
)  # fmt: skip
def test_a_program_that_fails_is_reported_and_started_again(tmp_path: Path, token: int, words: str) -> None:
    engine = runtime(tmp_path, timeout="1" if token == 52 else "20")
    engine.prefill([1])
    with pytest.raises(RuntimeFault, match=words):
        engine.step([token], 1)
    engine.rewind(0)  # as the agent does after a fault
    assert engine.prefill([9]).ids == [9]
    engine.close()


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="no such file"):
        Subprocess(tmp_path, command="/nowhere/runtime").load()
    for command, timeout in (("", "1"), ("'", "1"), ("x", "0"), ("x", "soon")):
        with pytest.raises(InputError):
            Subprocess(tmp_path, command=command, timeout=timeout)
