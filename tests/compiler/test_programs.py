"""Subjects: what a factory may return, where it is looked for, what it may print; lengths of nested inputs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from hilsim.compiler.lengths import FixedLengths, bounds_of, fixed_lengths, lengths_of
from hilsim.compiler.program import Subject, exported, place_in, subject_of
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.site import CompileSite
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT

pytestmark = pytest.mark.usefixtures("at_home")

ORIN = PROJECT / "scenarios/orin_8295_greedy.yaml"

HEAD = "import torch\nfrom torch import nn\n"
Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a module of the test's own beside a scenario; its name, which no other test has."""

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return name

    return write


# Where factories are found, and what they print.


def test_a_module_beside_the_scenario_is_found_and_the_path_is_as_it_was(write: Write, tmp_path: Path) -> None:
    write("beside_helper", "WIDTH = 3\n")
    name = write(
        "beside_main", "def build():\n    import beside_helper as h\n    return nn.ReLU(), torch.zeros(h.WIDTH)\n"
    )
    before = list(sys.path)
    with pytest.raises(InputError, match="no module 'beside_main'"):
        subject_of(f"{name}:build")
    assert subject_of(f"{name}:build", tmp_path).inputs[0].shape == (3,)
    with pytest.raises(InputError, match=r"Put it into .* Run from the folder"):
        subject_of("beside_nothing:build", tmp_path)
    assert sys.path == before


def test_what_user_code_prints_is_not_on_standard_output(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = "class Loud(nn.Module):\n    def forward(self, x):\n        print('forward')\n        return x + 1\n"
    name = write(
        "loud", f"print('import')\n{forward}\ndef build():\n    print('build')\n    return Loud(), torch.zeros(2)\n"
    )
    exported(subject_of(f"{name}:build", tmp_path))
    print(json.dumps({"a": 1}))
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 1}
    assert err.split() == ["import", "build"]


def test_a_factory_runs_once_and_a_failure_is_not_kept(write: Write, tmp_path: Path) -> None:
    count = (
        "CALLS = []\ndef build():\n    CALLS.append(1)\n    if len(CALLS) == 1:\n        raise ValueError('not yet')\n"
    )
    spec = write("counted_builds", f"{count}    return nn.ReLU(), torch.zeros(2)\n") + ":build"
    with pytest.raises(InputError, match="not yet"):
        subject_of(spec, tmp_path)
    assert subject_of(spec, tmp_path) is subject_of(spec, tmp_path)
    assert len(sys.modules["counted_builds"].CALLS) == 2


class Interrupted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


def test_an_interrupt_gets_through_and_leaves_logging_as_it_was() -> None:
    before = logging.root.manager.disable
    with pytest.raises(KeyboardInterrupt):
        exported(Subject("x", Interrupted(), (torch.zeros(2),)))
    assert logging.root.manager.disable == before


def raised_by(function: Callable[[], Any]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_place_of_a_fault_is_the_users_or_none() -> None:
    for function in (lambda: json.loads("{"), lambda: torch.zeros(2, 3).sum(7)):
        assert place_in(raised_by(function)).startswith(f"{__file__}:")
    error = raised_by(lambda: json.loads("{"))
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    assert trace is not None
    assert place_in(error.with_traceback(trace)) == ""  # json's own lines alone


# What factories return.


def test_keyword_inputs_are_exported(write: Write, tmp_path: Path) -> None:
    module = "class Two(nn.Module):\n    def forward(self, x, *, late, early):\n        return x * late - early\n"
    text = (
        f"{module}def build():\n    n = torch.export.Dim('n', min=2, max=9)\n    x = torch.ones(4)\n"
        "    return {'module': Two(), 'args': x, 'kwargs': {'early': x, 'late': 3 * x},\n"
        "            'dynamic_shapes': {'x': {0: n}, 'early': {0: n}, 'late': {0: n}}}\n"
    )
    subject = subject_of(write("by_names", text) + ":build", tmp_path)
    program = exported(subject)
    x = torch.ones(7)
    assert torch.equal(program.module()(x, late=3 * x, early=x), 2 * x)
    assert prove_programs(program, exported(subject), subject.inputs).passed


@pytest.mark.parametrize(
    ("returned", "parts"),
    [
        ("{'module': nn.ReLU(), 'arg': 1}", ("the key 'arg'", "module, args, kwargs, dynamic_shapes", "'args'?")),
        ("{'args': 1}", ("dict without a module", "dynamic_shapes")),
        ("{'module': nn.ReLU(), 'kwargs': [1]}", ("kwargs: found a list",)),
        ("[nn.ReLU(), 1]", ("a factory that returns list",)),
    ],
)
def test_what_a_factory_may_not_return_is_reported(
    write: Write, tmp_path: Path, returned: str, parts: tuple[str, ...]
) -> None:
    name = write(f"returns_{len(returned)}", f"def build():\n    return {returned}\n")
    with pytest.raises(InputError) as caught:
        subject_of(f"{name}:build", tmp_path)
    for part in parts:
        assert part in str(caught.value)


# Lengths of nested inputs, with a minimum, of several axes.


class Nested(nn.Module):
    """Shifts by two, so it takes no length below 3; every position sees itself and what came before."""

    def forward(self, batch: dict[str, Any], *, mask: Tensor) -> dict[str, Tensor]:
        x, (shift, _) = batch["x"], batch["rest"]
        torch._check(x.shape[0] >= 3)
        seen = torch.tril(mask) @ x
        return {"seen": seen + shift, "mask": torch.tril(mask * 2), "first": seen[:3]}


def nested(module: nn.Module, example: int = 6) -> Subject:
    n = Dim("n", min=3, max=16)
    batch = {"x": torch.randn(example, 4), "rest": [torch.randn(4), 1]}
    shapes = {"batch": {"x": {0: n}, "rest": [None, None]}, "mask": {0: n, 1: n}}
    return Subject("nested", module, (batch,), shapes, {"mask": torch.rand(example, example)})


def lengths(subject: Subject) -> FixedLengths:
    """On a unit whose compiler takes fixed shapes alone."""
    npu = load_chip("sa8295p", ORIN).units["npu"]
    place = CompileSite(npu, npu.precisions["w8a8"], load_profile("sa8295_today", ORIN), Compile())
    return fixed_lengths(subject, exported(subject), place)


def test_lengths_of_nested_inputs_and_square_masks() -> None:
    subject = nested(Nested())
    program = exported(subject)
    axes, symbols = lengths_of(program)
    assert axes == {0: (0,), 3: (0, 1)}
    assert [bounds_of(program, symbol) for symbol in symbols] == [(3, 16)]
    found = lengths(subject)
    assert found.refusal == ""
    assert found.example == 6
    assert list(found.sized) == ["width 8", "width 16"]
    width, sized = found.sized["width 16"]
    assert width == 16
    assert sized.inputs[0]["x"].shape == (16, 4)
    assert sized.inputs[0]["rest"][1] == 1
    assert sized.kwargs["mask"].shape == (16, 16)
    assert exported(sized).module()(*sized.inputs, **sized.kwargs)["mask"].shape == (16, 16)


class Mixing(Nested):
    def forward(self, batch: dict[str, Any], *, mask: Tensor) -> dict[str, Tensor]:
        return {"seen": mask @ batch["x"]}


def test_a_mask_that_shows_its_padding_is_refused() -> None:
    assert "real positions see the padding" in lengths(nested(Mixing())).refusal


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


def test_a_dimension_that_is_computed_from_a_length_is_refused() -> None:
    subject = Subject("doubled", Doubled(), (torch.zeros(6),), {"x": {0: 2 * Dim("half", max=16)}})
    assert "computed from a length (2*" in lengths(subject).refusal
