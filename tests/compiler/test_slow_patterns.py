"""Slow patterns but repeated heads: each found where it is, not where it is not, and mended to the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from hilsim.compiler.nodes import constants_of
from hilsim.compiler.pass_time import PassTime, slow_findings
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.registry import PATTERNS, mend, slow_patterns, slow_places
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from tests.compiler.public_exports import WORKED

HERE = Path("test")
TOKENS, HIDDEN, HEADS, WIDTH = 96, 16, 2, 8


class Wrapped(nn.Module):
    """A function with parts of its own."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.register_module(name, part) if isinstance(part, nn.Module) else self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def program_of(function: Callable[..., Any], *inputs: Tensor, **parts: Any) -> ExportedProgram:
    return exported(Subject("module", Wrapped(function, **parts), inputs))


def names_of(program: ExportedProgram) -> set[str]:
    return {place.pattern.name for place in slow_places(program)}


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def clock_of(program: ExportedProgram, chip: str = "sa8295p", unit: str = "npu") -> PassTime:
    found = load_chip(chip, HERE).units[unit]
    site = CompileSite(found, next(iter(found.precisions.values())), load_profile(found.profiles[0], HERE), Compile())
    return PassTime(site, constants_of(program))


def gains_of(program: ExportedProgram, chip: str = "sa8295p", unit: str = "npu") -> dict[str, float]:
    clock = clock_of(program, chip, unit)
    return {found.name: found.gain_s for found in slow_findings(slow_patterns(program, clock), clock, "whole")}


def proven(program: ExportedProgram, inputs: tuple[Tensor, ...]) -> bool:
    """Whether mending changes the program and none of its numbers."""
    mended = copied(program)
    return bool(mend(mended)) and prove_programs(program, mended, inputs, cases=20, exactness="bits").passed


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, -1) @ v


# Caches


def test_a_cache_sent_out_whole_is_found_and_new_rows_alone_are_not() -> None:
    def whole(self: Wrapped, q: Tensor, new: Tensor, cache: Tensor) -> Any:
        keys = torch.cat((cache, new), 2)
        return attended(q, keys, keys), keys

    def rows(self: Wrapped, q: Tensor, new: Tensor, cache: Tensor) -> Any:
        keys = torch.cat((cache, new), 2)
        return attended(q, keys, keys), new

    inputs = (x(1, HEADS, 1, WIDTH), x(1, HEADS, 1, WIDTH), x(1, HEADS, 31, WIDTH))
    assert names_of(program_of(whole, *inputs)) == {"cache_by_cat"}
    assert names_of(program_of(rows, *inputs)) == set()


def test_the_better_form_of_a_cache_by_cat_writes_the_new_rows_alone() -> None:
    """31 of 32 positions need not be copied."""
    inputs = (x(1, HEADS, 1, WIDTH), x(1, HEADS, 1, WIDTH), x(1, HEADS, 31, WIDTH))

    def whole(self: Wrapped, q: Tensor, new: Tensor, cache: Tensor) -> Any:
        keys = torch.cat((cache, new), 2)
        return attended(q, keys, keys), keys

    program = program_of(whole, *inputs)
    clock = clock_of(program)
    (found,) = slow_findings(slow_patterns(program, clock), clock, "whole")
    assert found.could_s == pytest.approx(found.takes_s / 32)

    def in_place(self: Wrapped, q: Tensor, new: Tensor, cache: Tensor) -> Any:
        keys = torch.cat((cache, torch.zeros_like(new)), 2).index_copy(2, torch.tensor([31]), new)
        return attended(q, keys, keys), keys

    ours, theirs = (Wrapped(form)(*inputs) for form in (whole, in_place))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_cache_in_another_order_is_found_and_one_as_it_is_read_is_not() -> None:
    def turned(self: Wrapped, q: Tensor, cache: Tensor) -> Tensor:
        keys = cache.transpose(1, 2)
        return attended(q, keys, keys)

    def straight(self: Wrapped, q: Tensor, cache: Tensor) -> Tensor:
        return attended(q, cache, cache)

    q, cache = x(1, HEADS, 1, WIDTH), x(1, 32, HEADS, WIDTH)
    assert names_of(program_of(turned, q, cache)) == {"cache_permuted"}
    kept = cache.transpose(1, 2).contiguous()
    assert names_of(program_of(straight, q, kept)) == set()
    assert torch.equal(Wrapped(turned)(q, cache), Wrapped(straight)(q, kept))
    wrong = cache.reshape(1, HEADS, 32, WIDTH)
    assert not torch.equal(Wrapped(turned)(q, cache), Wrapped(straight)(q, wrong))


def test_a_picture_in_another_order_is_no_cache() -> None:
    assert (
        names_of(program_of(lambda self, h: self.one(h.permute(0, 3, 1, 2)), x(1, 8, 8, 3), one=nn.Conv2d(3, 4, 3)))
        == set()
    )


# Positions


def layered(self: Wrapped, h: Tensor, positions: Tensor) -> Tensor:
    """Two layers that look the same rows up, in tables of their own."""
    for cos, sin in ((self.cos, self.sin), (self.cos_too, self.sin_too)):
        h = h * cos[positions] + h.roll(1, -1) * sin[positions]
    return h


def test_tables_looked_up_in_every_layer_are_looked_up_once() -> None:
    cos, sin = x(32, WIDTH), x(32, WIDTH) + 1
    inputs = (x(4, WIDTH), torch.arange(4))
    program = program_of(layered, *inputs, cos=cos, sin=sin, cos_too=cos.clone(), sin_too=sin.clone())
    places = slow_places(program)
    assert [place.pattern.name for place in places] == ["positions_again"] * 2
    assert proven(program, inputs)


def test_tables_of_other_numbers_are_looked_up_each() -> None:
    cos, sin = x(32, WIDTH), x(32, WIDTH) + 1
    program = program_of(layered, x(4, WIDTH), torch.arange(4), cos=cos, sin=sin, cos_too=cos * 3, sin_too=sin * 2)
    assert names_of(program) == set()


def masked(self: Wrapped, q: Tensor, k: Tensor, positions: Tensor) -> Tensor:
    hidden = torch.arange(k.shape[-2])[None] > positions[:, None]
    return attended(q, k, k, torch.zeros(hidden.shape).masked_fill(hidden, -3e4))


def test_a_mask_of_positions_is_found_and_one_that_comes_in_or_is_constant_is_not() -> None:
    q, k, positions = x(1, HEADS, 4, WIDTH), x(1, HEADS, 8, WIDTH), torch.arange(4)
    assert names_of(program_of(masked, q, k, positions)) == {"mask_in_graph"}
    mask = torch.zeros(4, 8).masked_fill(torch.arange(8)[None] > positions[:, None], -3e4)

    def given(self: Wrapped, q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        return attended(q, k, k, mask)

    assert names_of(program_of(given, q, k, mask)) == set()
    assert torch.equal(Wrapped(masked)(q, k, positions), Wrapped(given)(q, k, mask))
    assert names_of(program_of(lambda self, q, k: attended(q, k, k, self.mask), q, k, mask=mask)) == set()


# The vocabulary


def language(ending: Callable[[Wrapped, Tensor], Any]) -> Callable[..., Any]:
    return lambda self, tokens: ending(self, self.table(tokens) * 2)


PARTS = {"table": nn.Embedding(TOKENS, HIDDEN), "head": nn.Linear(HIDDEN, TOKENS, bias=False)}


ROWS = 80
EARLIER = torch.ones(ROWS, ROWS).tril().bool()
APART = (torch.arange(ROWS)[:, None] - torch.arange(ROWS)).abs()


def compared(self: Wrapped, h: Tensor, positions: Tensor) -> Tensor:
    return attended(h, h, h, torch.where(positions[None] <= positions[:, None], 0.0, -1e4))


def window(self: Wrapped, h: Tensor, positions: Tensor) -> Tensor:
    near = (positions[None] - positions[:, None]).abs() <= 9
    return F.scaled_dot_product_attention(h, h, h, near[None])


Mixed = Callable[[Wrapped, Tensor, Tensor], Tensor]
CAUSAL: dict[str, Mixed] = {
    "called causal": lambda self, h, positions: F.scaled_dot_product_attention(h, h, h, is_causal=True),
    "a constant mask": lambda self, h, positions: F.scaled_dot_product_attention(h, h, h, EARLIER[None]),
    "a constant added": lambda self, h, positions: attended(h, h, h, torch.full((ROWS, ROWS), -1e4).triu(1)),
    "a table sliced": lambda self, h, positions: attended(h, h, h, self.table_of_masks[:ROWS, :ROWS]),
    "a narrow window before": lambda self, h, positions: F.scaled_dot_product_attention(
        h, h, h, (EARLIER & (APART < 9))[None]
    ),
    "positions compared": compared,
}
BOTH_SIDES: dict[str, Mixed] = {
    "no mask": lambda self, h, positions: F.scaled_dot_product_attention(h, h, h),
    "a constant window": lambda self, h, positions: F.scaled_dot_product_attention(h, h, h, (APART < 9)[None]),
    "a window of positions": window,
    "padding": lambda self, h, positions: attended(h, h, h, torch.where(positions < 70, 0.0, -1e4)[None, None]),
    "a bias of distances": lambda self, h, positions: attended(h, h, h, APART * -0.5),
    "no attention": lambda self, h, positions: h,
}


def prompt_of(mixed: Mixed, every: bool = True) -> ExportedProgram:
    def whole(self: Wrapped, tokens: Tensor, positions: Tensor) -> Tensor:
        h = mixed(self, self.table(tokens) * 2, positions)
        made: Tensor = self.head(h if every else h[:, -1:])
        return made

    triangle = torch.full((300, 300), -1e4).triu(1)
    return program_of(whole, torch.arange(ROWS)[None], torch.arange(ROWS), table_of_masks=triangle, **PARTS)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prompt_whose_rows_all_get_logits_is_found(name: str) -> None:
    every, last = prompt_of(CAUSAL[name]), prompt_of(CAUSAL[name], every=False)
    assert "head_of_every_row" in names_of(every)
    assert "head_of_every_row" not in names_of(last)
    inputs = (torch.arange(ROWS)[None], torch.arange(ROWS))
    assert torch.allclose(every.module()(*inputs)[:, -1:], last.module()(*inputs), rtol=1e-4, atol=1e-5)
    assert gains_of(every)["head_of_every_row"] > 0


@pytest.mark.parametrize("name", BOTH_SIDES)
def test_a_network_that_reads_to_both_sides_wants_logits_of_every_row(name: str) -> None:
    assert "head_of_every_row" not in names_of(prompt_of(BOTH_SIDES[name]))


def test_a_mask_that_comes_in_with_a_row_for_each_query_is_taken_to_be_causal() -> None:
    def whole(self: Wrapped, tokens: Tensor, mask: Tensor) -> Tensor:
        h = self.table(tokens)
        made: Tensor = self.head(attended(h, h, h, mask))
        return made

    tokens = torch.arange(ROWS)[None]
    rows, padding = (program_of(whole, tokens, torch.zeros(1, count, ROWS), **PARTS) for count in (ROWS, 1))
    assert names_of(rows) == {"head_of_every_row"}
    assert names_of(padding) == set()


def test_rows_behind_a_cache_may_verify_a_draft_and_want_logits_each() -> None:
    def behind(self: Wrapped, tokens: Tensor, cache: Tensor) -> Tensor:
        h = self.table(tokens)
        made: Tensor = self.head(h + attended(h, cache, cache))
        return made

    cache = x(1, 8, HIDDEN)
    verify, prompt = (program_of(behind, torch.arange(rows)[None] % TOKENS, cache, **PARTS) for rows in (32, 256))
    assert names_of(verify) == set()
    assert names_of(prompt) == {"head_of_every_row"}


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sort"])
def test_a_softmax_of_the_vocabulary_is_found(name: str) -> None:
    def ending(self: Wrapped, h: Tensor) -> Any:
        logits = self.head(h)
        return logits.sort(-1) if name == "sort" else getattr(torch, name)(logits, -1)

    program = program_of(language(ending), torch.arange(4)[None], **PARTS)
    assert names_of(program) == {"softmax_of_vocabulary"}
    assert gains_of(program)["softmax_of_vocabulary"] > 0


def test_a_softmax_before_an_argmax_is_left_out() -> None:
    tokens = torch.arange(4)[None]
    program = program_of(language(lambda self, h: self.head(h).softmax(-1).argmax(-1)), tokens, **PARTS)
    assert names_of(program) == {"softmax_before_argmax"}
    assert proven(program, (tokens,))


def test_a_softmax_that_more_than_an_argmax_reads_stays() -> None:
    def both(self: Wrapped, h: Tensor) -> Any:
        chances = self.head(h).softmax(-1)
        return chances.argmax(-1), chances

    rows = language(lambda self, h: self.head(h).softmax(-1).argmax(-2))
    for function in (language(both), rows):
        program = program_of(function, torch.arange(4)[None], **PARTS)
        assert names_of(program) == {"softmax_of_vocabulary"}
        assert not mend(copied(program))


def test_a_softmax_of_few_classes_or_of_the_best_is_none() -> None:
    few = program_of(lambda self, h: self.one(h).softmax(-1), x(4, HIDDEN), one=nn.Linear(HIDDEN, 5))
    best = program_of(language(lambda self, h: self.head(h).topk(8, -1)[0].softmax(-1)), torch.arange(4)[None], **PARTS)
    assert names_of(few) == set()
    assert names_of(best) == set()


# Layouts, casts, loops


def test_axes_exchanged_and_exchanged_back_are_left_as_they_are() -> None:
    def there_and_back(self: Wrapped, h: Tensor) -> Tensor:
        turned = h.transpose(1, 2).contiguous()
        return torch.relu(turned * 2).transpose(1, 2).reshape(1, -1)

    inputs = (x(1, 4, 6, 8),)
    program = program_of(there_and_back, *inputs)
    assert names_of(program) == {"permuted_and_back"}
    assert proven(program, inputs)
    assert gains_of(program)["permuted_and_back"] > 0


def test_axes_exchanged_around_what_cares_are_none() -> None:
    def needed(self: Wrapped, h: Tensor) -> Tensor:
        return torch.softmax(h.transpose(1, 2), -2).transpose(1, 2)

    def not_back(self: Wrapped, h: Tensor) -> Tensor:
        return torch.relu(h.permute(0, 2, 3, 1)).permute(0, 2, 3, 1)

    def read_between(self: Wrapped, h: Tensor) -> Any:
        turned = torch.relu(h.transpose(1, 2))
        return turned.transpose(1, 2), turned.sum(2)

    for function in (needed, not_back, read_between):
        assert names_of(program_of(function, x(1, 4, 6, 8))) == set()


def test_products_in_float32_between_halves_are_found_and_norms_are_not() -> None:
    def wide(self: Wrapped, q: Tensor, k: Tensor) -> Tensor:
        return torch.softmax(q.float() @ k.float().transpose(-1, -2), -1).to(q.dtype) @ k

    def norm(self: Wrapped, q: Tensor, k: Tensor) -> Tensor:
        h = q.float()
        h = (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)).to(q.dtype)
        return torch.softmax((h @ k.transpose(-1, -2)).float(), -1).to(q.dtype) @ k

    q, k = x(1, HEADS, 4, WIDTH).half(), x(1, HEADS, 8, WIDTH).half()
    assert names_of(program_of(wide, q, k)) == {"wide_island"}
    assert names_of(program_of(norm, q, k)) == set()


def test_a_loop_of_tiny_operators_is_found_by_its_rounds() -> None:
    def loop(self: Wrapped, h: Tensor) -> Tensor:
        state = torch.zeros(1, HIDDEN)
        for step in range(h.shape[1]):
            state = torch.tanh(state * 0.5 + h[:, step] * 2.0)
            state = state * torch.sigmoid(state)
        return state

    long, short = (program_of(loop, x(1, steps, HIDDEN)) for steps in (60, 6))
    (found,) = slow_places(long)
    assert (found.pattern.name, found.detail) == ("unrolled_loop", "60 rounds")
    assert names_of(short) == set()
    unit = load_chip("drive-orin-x", HERE).units["gpu"]
    assert unit.operator_overhead is not None
    gain = gains_of(long, "drive-orin-x", "gpu")["unrolled_loop"]
    assert gain == pytest.approx(unit.operator_overhead.si * len(found.nodes) * (1 - 1 / 60))


# What is fine


@pytest.mark.parametrize(("source", "what", "profile", "module", "inputs", "activations"), WORKED)
def test_public_exports_that_worked_have_no_slow_finding(
    source: str, what: str, profile: str, module: nn.Module, inputs: tuple[Any, ...], activations: Any
) -> None:
    assert names_of(exported(Subject(what, module, inputs))) == set(), source


def test_every_pattern_says_what_to_write_and_where_that_is_from() -> None:
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)
    for pattern in PATTERNS:
        assert len(pattern.remedy) > 20
        assert len(pattern.source) > 10


def test_the_table_in_the_docs_has_every_pattern() -> None:
    text = (Path(__file__).parents[2] / "docs" / "export_doctor.md").read_text(encoding="utf-8")
    for pattern in PATTERNS:
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{pattern.name}` |"))
        assert ("| mended" in row) == pattern.applies
