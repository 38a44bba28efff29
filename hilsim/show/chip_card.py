"""A chip on one page: its figures by kind, what a model's steps take on each unit, what a network would take there."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from hilsim.cost.between import between_of
from hilsim.cost.counts import (
    active_weights,
    adapter_weights,
    body_weights,
    kv_numbers,
    kv_numbers_per_token,
    read_weights,
    state_bytes,
)
from hilsim.cost.network import fallback_seconds, network_seconds, vision_load
from hilsim.cost.published import class_words, limit_words
from hilsim.cost.start_up import start_up
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline
from hilsim.describe.chip import Chip, Precision, Unit
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.figure import KINDS, Figure
from hilsim.describe.figures import figures
from hilsim.describe.layers import BITS
from hilsim.describe.model import Model
from hilsim.describe.placement import Placement
from hilsim.describe.relatives import stands_on
from hilsim.describe.setup import Placed
from hilsim.fidelity.confidence import interval_on
from hilsim.units import ms

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
SHARES = (0.1, 0.5, 1.0)
IMAGE = 256  # tokens, of about 512 x 512 pixels


def print_card(console: Console, chip: Chip, model: Model | None, context: int, load: NetworkLoad | None) -> None:
    """The whole card."""
    console.print(Text(f"{chip.name}: {chip.title}", style="bold"))
    for line in sections(chip, model, context, load):
        console.print(Text(line), soft_wrap=True)


def sections(chip: Chip, model: Model | None, context: int, load: NetworkLoad | None) -> Iterator[str]:
    """Figures; then steps and networks where requested."""
    if model is None and load is None:
        yield from figure_lines(chip)
    yield from limit_lines(chip)
    if model is not None:
        yield from shape_lines(model, context)
    for name, unit in chip.units.items():
        if model is not None:
            yield from step_lines(chip, name, unit, model, context)
        if load is not None:
            yield from network_lines(name, unit, load)
    for line in stands_on(chip):
        yield f"\nstands on: {line}"
    if chip.notes:
        yield f"\nnotes: {chip.notes.strip()}"


def limit_lines(chip: Chip) -> Iterator[str]:
    """What is published of classes of models on each unit, and what an NPU's description lacks."""
    for name, unit in chip.units.items():
        for limit in unit.published_limits:
            figure = limit.context or limit.supported
            assert figure is not None, "a limit has one of them"
            text = f"{class_words(limit)} on {chip.name}.{name} {limit_words(limit)}"
            yield f"\npublished limit: {text}  {figure.source}"
        if unit.kind == "npu" and unit.widths is None:
            yield f"\n{name}: an NPU without widths: no model is placed on it, as its graphs' widths set its times"
        if unit.kind == "npu" and not unit.profiles:
            yield f"\n{name}: an NPU without a rule profile: what its compiler takes is not checked"


def figure_lines(chip: Chip) -> Iterator[str]:
    """Every figure, the surest kinds first, with range and source."""
    found = figures(chip)
    for kind in KINDS:
        inside = {path: figure for path, figure in found.items() if figure.kind == kind}
        yield f"\n{kind}: {len(inside)} figures"
        for path, figure in inside.items():
            value = f"{figure.value:.4g} {figure.unit}" if isinstance(figure, Figure) else str(figure.value)
            ends = figure.range if isinstance(figure, Figure) else None
            span = f" [{ends[0]:.4g} to {ends[1]:.4g}]" if ends is not None else ""
            yield f"  {path} = {value}{span}  {figure.source}"


def shape_lines(model: Model, context: int) -> Iterator[str]:
    """What of a model is no plain decoder, in weights, bytes and experts."""
    shape = model.architecture
    parts = []
    if active_weights(shape) < body_weights(shape):
        parts.append(
            f"{body_weights(shape) / 1e9:.3g} thousand million weights in the layers, of which a pass reads, by rows: "
            + ", ".join(f"{rows}: {read_weights(shape, rows) / 1e9:.3g}" for rows in (1, 8, 64))
        )
    if state := state_bytes(shape):
        parts.append(f"a state of {state / 1e6:.3g} MB a conversation, whatever its length")
    if kv_numbers(shape, context) < context * kv_numbers_per_token(shape):
        held = kv_numbers(shape, context) / (context * kv_numbers_per_token(shape))
        parts.append(f"by its windows {held:.0%} of a whole cache at {context} tokens")
    if model.adapter is not None:
        parts.append(f"an adapter of rank {model.adapter.rank}, {adapter_weights(model) * BITS / 8e6:.3g} MB")
    if parts:
        yield f"\n{model.name}: {'; '.join(parts)}"


def image_line(model: Model, unit: Unit, key: str, timer: Roofline) -> str:
    """What an image takes: the tower in fp16 where the unit has it, then its tokens as a prompt."""
    tower = "fp16" if "fp16" in unit.precisions else key
    encode_ms = 1000 * network_seconds(vision_load(model, IMAGE), unit, unit.precisions[tower])
    read_ms = ms(timer.duration_ns(Step(Phase.PREFILL, IMAGE, 0)))
    return f"  image of {IMAGE} tokens, ms  tower ({tower}): {encode_ms:.4g}  its tokens as a prompt: {read_ms:.4g}"


def step_lines(chip: Chip, name: str, unit: Unit, model: Model, context: int) -> Iterator[str]:
    """What steps of a model take in every precision that this unit runs."""
    for precision in unit.precisions:
        if unit.refusal(precision) is not None:
            yield f"\n{name} {precision}: refused, {unit.refusal(precision)}"
            continue
        timer = Roofline(model, unit, precision, None if unit.widths is None else unit.widths.value, context)
        decode = Step(Phase.DECODE, 1, context // 2)
        cost = timer.costs(decode)[0]
        took = ms(timer.duration_ns(decode))
        yield f"\n{name} {precision}: {model.name} at context {context} on {chip.name}"
        yield f"  decode {took:.4g} ms, {1000 / took:.4g} tokens/s, bound by {cost.bound}"
        yield from sure_lines(chip, unit, precision, model, took)
        yield f"  rests on {rested_on(unit.precisions[precision])}"
        verifies = (f"{rows}: {ms(timer.duration_ns(Step(Phase.VERIFY, rows, context // 2))):.4g}" for rows in ROWS)
        yield f"  verify of n rows, ms   {'  '.join(verifies)}"
        lengths = [length for length in (128, 512, 2048) if length <= context]
        prompts = (f"{length}: {ms(timer.duration_ns(Step(Phase.PREFILL, length, 0))):.4g}" for length in lengths)
        yield f"  prompt of n tokens, ms {'  '.join(prompts)}"
        if model.vision is not None and context >= IMAGE:
            yield image_line(model, unit, precision, timer)
        placement = Placement(model=model.name, chip=chip.name, unit=name, precision=precision)
        if started := start_up(chip, [Placed("target", placement, model, chip, unit, None)]):
            yield f"  {started}"
        if (between := between_of(unit)).costs:
            switch, wake = ms(between.switch_ns), ms(between.wake_ns)
            yield f"  between passes, ms: switch of the graph {switch:.4g}, waking up {wake:.4g}"


def sure_lines(chip: Chip, unit: Unit, precision: str, model: Model, decode_ms: float) -> Iterator[str]:
    """Between what times eight of ten measured ones of such a device and model lie: of a step, and of prompts."""
    decode, prompt = (interval_on(chip, unit, precision, kind, model.name) for kind in ("decode", "prefill"))
    if decode is not None:
        low, high = decode_ms * decode.low, decode_ms * decode.high
        yield f"  80 % of measured steps lie between {low:.4g} and {high:.4g} ms ({decode})"
    if prompt is not None:
        yield f"  80 % of measured prompts take {prompt.low:.2f} to {prompt.high:.2f} times as long as below ({prompt})"


def rested_on(precision: Precision) -> str:
    """The rates of a number format with their kinds: what is worth more than a guess."""
    rates = {
        "memory_rate": precision.memory_rate,
        "weight_rate": precision.weight_rate,
        "cache_rate": precision.cache_rate,
        "operation_rate": precision.operation_rates[-1].rate,
        "attention_rate": precision.attention_rate,
    }
    return ", ".join(f"{name} {figure.kind}" for name, figure in rates.items() if figure is not None)


def network_lines(name: str, unit: Unit, load: NetworkLoad) -> Iterator[str]:
    """What one pass of a network takes in every precision, and what parts of it leaving the unit would cost."""
    for key, precision in unit.precisions.items():
        line = f"  {name} {key}: {1000 * network_seconds(load, unit, precision):.4g} ms"
        if unit.fallback is not None:
            costs = (
                f"{share:.0%}: {1000 * fallback_seconds(load, unit, precision, share=share, crossings=1):.4g}"
                for share in SHARES
            )
            line += f"; with a share of it fallen back to CPU or GPU, ms   {'  '.join(costs)}"
        yield line
