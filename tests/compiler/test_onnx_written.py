"""Decoders and modules as ONNX: with their caches as inputs and outputs, as onnxruntime computes the original."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from hilsim.compiler import onnx_written
from hilsim.compiler.compile_check import profile_of, site_of
from hilsim.compiler.deployed import stand_in_program
from hilsim.compiler.onnx_written import write_onnx
from hilsim.compiler.program import Subject, exported
from hilsim.compiler.written import decoder_inputs, drawn_inputs, write_decoder
from hilsim.describe.head import TopKSamplingHead
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Placed
from hilsim.networks.network import load_network
from hilsim.places import CODE as PROJECT
from hilsim.progress import silent

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CONTEXT = 144  # a little more than the widest graph


@pytest.fixture(scope="module")
def draft() -> Placed:
    (found,) = [
        part
        for part in load_setup(PROJECT / "scenarios/orin_8295.yaml").parts
        if isinstance(part, Placed) and part.role == "draft"
    ]
    return found


@pytest.mark.slow
def test_decoders_are_written_with_their_caches(draft: Placed, tmp_path: Path) -> None:
    setup = load_setup(PROJECT / "scenarios/orin_8295.yaml")
    profile = profile_of(setup, draft)
    assert profile is not None
    site = site_of(draft, profile, setup.scenario.compile)
    lines = [line for line in write_decoder(draft, site, CONTEXT, tmp_path, silent) if ".onnx" in line]
    assert len(lines) == len(list(tmp_path.glob("*.pt2"))) == len(list(tmp_path.glob("*.onnx")))
    assert all("by onnxruntime over 8 random inputs" in line for line in lines)
    for file in tmp_path.glob("*.onnx"):
        graph = onnx.load(file).graph
        assert [value.name for value in graph.input] == ["tokens", "positions", "mask", "keys", "values"]
        assert [value.name for value in graph.output] == ["logits", "new_keys", "new_values"]


def test_a_sampling_head_has_its_random_numbers_as_inputs(draft: Placed, tmp_path: Path) -> None:
    assert draft.stand_in is not None
    network = load_network(draft.stand_in)
    head = TopKSamplingHead(name="top_k_sampling", k=8)
    subject = stand_in_program("draft", network, 4, 16, head)
    inputs = partial(decoder_inputs, subject, network.config.vocab_size)
    line = write_onnx(exported(subject), inputs, tmp_path / "draft.onnx")
    assert "by onnxruntime over 8 random inputs" in line


class Normed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(nn.functional.rms_norm(x, (8,)), -1)


def written(module: nn.Module, inputs: tuple[torch.Tensor, ...], file: Path) -> str:
    return write_onnx(exported(Subject("m", module, inputs)), partial(drawn_inputs, inputs), file)


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, x = tmp_path / "m.onnx", torch.randn(2, 8)
    assert "by onnxruntime" in written(Normed(), (x,), file)
    file.unlink()
    monkeypatch.setitem(onnx_written.SPELLED, torch.ops.aten._softmax.default, lambda x, dim, half: x)
    assert "onnxruntime is off" in written(Normed(), (x,), file)
    assert not file.exists()


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.view_as_complex(x) * self.turns)


def test_what_onnx_cannot_hold_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, x = tmp_path / "m.onnx", torch.randn(2, 8)
    lines = [written(Turned(), (torch.randn(4, 2),), file)]
    assert "no tensors of complex64" in lines[0]
    monkeypatch.setattr(onnx_written, "MOST", 16)
    lines.append(written(nn.Linear(8, 8), (x,), file))
    assert "one ONNX file holds 2" in lines[1]
    monkeypatch.setattr(onnx_written, "SPELLED", {})
    lines.append(written(Normed(), (x,), file))
    assert "'aten::rms_norm' to ONNX opset version 17 is not supported" in lines[2]
    assert not any("\n" in line for line in lines)
    assert not file.exists()
    assert capfd.readouterr().out == ""  # the exporter writes the graph to standard output, past Python


def test_drawn_inputs_are_like_the_example() -> None:
    example = (torch.randn(100, 10) * 3 + 5, torch.tensor([2, 9, 4]), torch.tensor([True, False]), 7)
    assert drawn_inputs(example, 0) is example
    floats, whole, truth, number = drawn_inputs(example, 1)
    assert number == 7
    assert abs(float(floats.mean()) - 5) < 0.5
    assert set(whole.tolist()) <= {2, 9, 4}
    assert truth.dtype == torch.bool
    assert torch.equal(drawn_inputs(example, 1)[0], floats)
