"""Formats of quantised weights whose packing is published, each read into float matrices of (out, in)."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor

from hilsim.describe.config_json import Fields
from hilsim.networks.quantised_folder import (
    QuantisedFolder,
    block_size,
    group_size,
    integers,
    is_scale,
    unpacked,
)
from hilsim.networks.tensors import converted

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight columns, which one each four bits of a word hold
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def gptq(work: QuantisedFolder) -> str:
    """GPTQ: scale x (integer - zero), both packed; version 1 stores zeros less one."""
    fields = work.fields
    bits = int(fields.document.get("bits") or 0) if isinstance(fields.document.get("bits"), int) else 0
    if bits not in (2, 3, 4, 8):
        fields.fault("bits", "2, 3, 4 or 8")
    layout = fields.choice("checkpoint_format", "gptq", ("gptq", "gptq_v2"), converted_by_its_own("GPTQ"))
    group = group_size(fields)
    symmetric = fields.flag("sym", True)
    if fields.faults:
        return ""
    extra, most = 1 if layout == "gptq" else 0, 2**bits - 1
    for base in work.bases(".qweight"):
        parts = [work.take(f"{base}.{name}") for name in ("qweight", "qzeros", "scales")]
        order = work.take(f"{base}.g_idx", needed=False)
        if any(part is None for part in parts):
            continue
        qweight, qzeros, scales = (part for part in parts if part is not None)
        if scales.dim() != 2 or not scales.is_floating_point():
            work.fault(f"{base}.scales", f"scales {tuple(scales.shape)}", "floats (groups, out)")
            continue
        groups, outputs = scales.shape
        inputs = qweight.shape[0] * 32 // bits
        zeros = integers(work, f"{base}.qzeros", qzeros, bits, 1, outputs)
        weights = integers(work, f"{base}.qweight", qweight, bits, 0, inputs)
        if zeros is None or weights is None:
            continue
        if order is None:
            order = torch.arange(inputs) // (inputs if group == -1 else group)
        if weights.shape[1] != outputs or len(zeros) != groups or order.shape != (inputs,):
            found = f"qweight for {weights.shape[1]} outputs, {len(zeros)} groups of zeros, g_idx {tuple(order.shape)}"
            work.fault(
                base, found, f"{outputs} outputs, {groups} groups and {inputs} inputs, as scales and qweight have"
            )
            continue
        if not 0 <= int(order.min()) <= int(order.max()) < groups:
            work.fault(f"{base}.g_idx", f"groups {int(order.min())} to {int(order.max())}", f"0 to {groups - 1}")
            continue
        zeros = (zeros + extra) & most
        if symmetric and not bool((zeros == (most + 1) // 2).all()):
            found = f"zero points from {int(zeros.min())} to {int(zeros.max())} by {layout!r}"
            work.fault(
                f"{base}.qzeros", found, f"{(most + 1) // 2} everywhere, as the quantization_config is symmetric"
            )
            continue
        order, scales = order.long(), scales.float()
        work.put(base, (scales[order] * (weights - zeros[order])).T.contiguous(), scales)
    return f"GPTQ, {bits} bits, {grouped(group)}"


def converted_by_its_own(name: str) -> str:
    return f"Save it again in {name}'s own layout, or use the folder of float weights."


def grouped(group: int) -> str:
    return f"groups of {group}" if group > 0 else "a scale for each output"


def awq(work: QuantisedFolder) -> str:
    """AWQ for gemm kernels: scale x (integer - zero), eight columns to a word in an order of their own."""
    fields = work.fields
    for name, other in (("bits", "w_bit"), ("group_size", "q_group_size")):
        fields.document.setdefault(name, fields.document.get(other))
    fields.whole("bits", least=4, most=4)
    fields.choice("version", "gemm", ("gemm", "GEMM"), converted_by_its_own("AWQ's gemm"))
    group = group_size(fields)
    if fields.faults:
        return ""
    columns = torch.tensor(AWQ_ORDER).argsort()
    for base in work.bases(".qweight"):
        parts = [work.take(f"{base}.{name}", needed=name != "qzeros") for name in ("qweight", "scales", "qzeros")]
        qweight, scales, qzeros = parts
        if qweight is None or scales is None:
            continue
        if scales.dim() != 2 or not scales.is_floating_point() or qweight.dim() != 2:
            work.fault(f"{base}.scales", f"scales {tuple(scales.shape)}", "floats (groups, out)")
            continue
        inputs, (groups, outputs) = len(qweight), scales.shape
        size = inputs if group == -1 else group
        found = [integers(work, f"{base}.qweight", qweight, 4, 1, outputs)]
        found += [] if qzeros is None else [integers(work, f"{base}.qzeros", qzeros, 4, 1, outputs)]
        if any(part is None for part in found):
            continue
        if groups * size != inputs or (qzeros is not None and len(qzeros) != groups):
            work.fault(base, f"{groups} groups of {size} for {inputs} inputs", "groups that divide the inputs")
            continue
        shown = (part.reshape(len(part), -1, 8)[..., columns].flatten(1) for part in found if part is not None)
        weights, *zeros = shown
        centred = weights - (zeros[0].repeat_interleave(size, 0) if zeros else 8)
        scales = scales.float()
        work.put(base, (scales.repeat_interleave(size, 0) * centred).T.contiguous(), scales)
    return f"AWQ, 4 bits, {grouped(group)}"


# Numbers of 8 bits with scales.


def scaled(work: QuantisedFolder, base: str, scale_name: str, block: tuple[int, int] | None) -> None:
    """One matrix of 8-bit numbers times its scales: one, one an output, one a group or one a block."""
    scale, weight = work.take(scale_name), work.take(f"{base}.weight")
    if scale is None or weight is None:
        return
    if weight.dtype not in (*FP8, torch.int8) or weight.dim() != 2 or not is_scale(scale):
        kinds = f"{weight.dtype} {tuple(weight.shape)}, scales {scale.dtype} {tuple(scale.shape)}"
        work.fault(f"{base}.weight", f"a matrix of {kinds}".replace("torch.", ""), "float8 or int8 with float scales")
        return
    scale = scale.float()
    scale = scale.reshape(1, 1) if scale.numel() == 1 else scale[:, None] if scale.dim() == 1 else scale
    for axis, size in enumerate(weight.shape):
        parts = scale.shape[axis]
        of = block[axis] if block is not None and parts > 1 else -(-size // parts)
        if -(-size // of) != parts or (block is None and size % parts):
            work.fault(
                scale_name, f"{parts} scales along axis {axis} for {size} numbers", "blocks that fill the matrix"
            )
            return
        scale = scale.repeat_interleave(of, axis).narrow(axis, 0, size)
    work.put(base, weight.float() * scale, scale if weight.dtype == torch.int8 else None)


def fp8(work: QuantisedFolder) -> str:
    """FP8 with a scale a block (`weight_scale_inv`) or a row (`weight_scale`): weight x scale."""
    block = block_size(work.fields, "weight_block_size")
    if work.fields.faults:
        return ""
    for ending in (".weight_scale_inv", ".weight_scale"):
        for base in work.bases(ending):
            scaled(work, base, f"{base}{ending}", block)
    return f"FP8, {'blocks of {} x {}'.format(*block) if block else 'a scale a matrix or an output'}"


def compressed(work: QuantisedFolder) -> str:
    """compressed-tensors: packed integers, or 8-bit numbers, with symmetric scales."""
    fields = work.fields
    layouts = ("pack-quantized", "float-quantized", "int-quantized", "naive-quantized")
    layout = fields.choice("format", None, layouts, converted(work.path))
    status = fields.document.get("quantization_status", "compressed")
    if status != "compressed":
        fields.fault("quantization_status", "compressed")
    bits: set[int] = set()
    block = None
    for name in fields.object("config_groups").document:
        weights = fields.object("config_groups").object(name).object("weights")
        bits.add(weights.whole("num_bits", least=2, most=8))
        block = block or block_size(weights, "block_structure")
        for key in ("symmetric",):
            if not weights.flag(key, True):
                weights.fault(key, "true: zero points of this format are not read", converted(work.path))
        if weights.document.get("actorder") not in (None, False, "weight", "static"):
            weights.fault("actorder", "none, weight or static", converted(work.path))
    if len(bits) != 1 and not fields.faults:
        fields.fault("config_groups", "weights of one number of bits", converted(work.path))
    if fields.faults:
        return ""
    width = bits.pop()
    for base in work.bases(".weight_packed"):
        from_words(work, base, width)
    for base in work.bases(".weight_scale"):
        scaled(work, base, f"{base}.weight_scale", block)
    return f"compressed-tensors ({layout}), {width} bits"


def from_words(work: QuantisedFolder, base: str, bits: int) -> None:
    """One matrix of integers that are packed along the inputs, offset by half their range."""
    packed, scale = work.take(f"{base}.weight_packed"), work.take(f"{base}.weight_scale")
    shape = work.take(f"{base}.weight_shape")
    if packed is None or scale is None or shape is None:
        return
    sizes = shape.flatten().tolist()
    each = 32 // bits
    right = len(sizes) == 2 and packed.dtype == torch.int32 and packed.shape == (sizes[0], -(-sizes[1] // each))
    if bits not in (4, 8) or not right or not is_scale(scale) or scale.dim() != 2 or len(scale) != sizes[0]:
        found = f"weight_packed {tuple(packed.shape)}, weight_scale {tuple(scale.shape)}, weight_shape {sizes}"
        work.fault(f"{base}.weight_packed", found, "4 or 8 bits packed along the inputs, and a scale a group")
        return
    inputs = sizes[1]
    if inputs % scale.shape[1]:
        work.fault(f"{base}.weight_scale", f"{scale.shape[1]} groups of {inputs} inputs", "groups of one size")
        return
    scale = scale.float()
    whole = unpacked(packed, bits)[:, :inputs] - 2 ** (bits - 1)
    work.put(base, whole * scale.repeat_interleave(inputs // scale.shape[1], 1), scale)


# bitsandbytes.


def bitsandbytes(work: QuantisedFolder) -> str:
    """NF4 and FP4: places in a table of 16 times the largest of a block; INT8: rows times their largest over 127."""
    kinds = {four_bits(work, base) for base in work.bases(".weight.absmax")}
    for base in work.bases(".SCB"):
        rows, weight = work.take(f"{base}.SCB"), work.take(f"{base}.weight")
        work.take(f"{base}.weight_format", needed=False)
        if rows is None or weight is None:
            continue
        if weight.dtype != torch.int8 or weight.dim() != 2 or rows.numel() != len(weight):
            found = f"int8 weights of {weight.dtype} {tuple(weight.shape)} and {rows.numel()} scales"
            work.fault(f"{base}.SCB", found.replace("torch.", ""), "int8 (out, in) and a scale an output")
            continue
        step = rows.float().reshape(-1, 1) / 127
        work.put(base, weight.float() * step, step)
        kinds.add("INT8")
    return f"bitsandbytes {' and '.join(sorted(kinds - {''}))}"


def four_bits(work: QuantisedFolder, base: str) -> str:
    """One matrix of 4-bit places; returns its kind, or "" with a fault."""
    name = f"{base}.weight"
    packed, absmax = work.take(name), work.take(f"{name}.absmax")
    table = work.take(f"{name}.quant_map")
    states = [other for other in work.tensors if other.startswith(f"{name}.quant_state.bitsandbytes__")]
    nested = [work.take(f"{name}.{part}", needed=False) for part in ("nested_absmax", "nested_quant_map")]
    if packed is None or absmax is None or table is None:
        return ""
    if len(states) != 1:
        work.fault(name, "no quant_state, which has shape and size of blocks", "one as bitsandbytes saves it")
        return ""
    state = work.take(states[0])
    assert state is not None
    try:
        document = json.loads(bytes(state.to(torch.uint8).flatten().tolist()))
    except (ValueError, RecursionError):
        document = None
    fields = Fields(document if isinstance(document, dict) else {}, str(work.path), f"{states[0]}.", work.faults)
    before = len(work.faults)
    block = fields.whole("blocksize")
    shape = block_size(fields, "shape")
    if shape is None and len(work.faults) == before:
        fields.fault("shape", "two whole numbers")
    if absmax.dtype == torch.uint8 and len(work.faults) == before:
        absmax = nested_scales(work, name, absmax, nested, fields)
    if len(work.faults) > before or shape is None or absmax is None:
        return ""
    count = shape[0] * shape[1]
    right = packed.dtype == torch.uint8 and packed.numel() * 2 == count + count % 2 and table.numel() == 16
    if not right or absmax.numel() != -(-count // block) or not absmax.is_floating_point():
        found = f"{packed.numel()} bytes, {absmax.numel()} scales and a table of {table.numel()} for {shape} numbers"
        work.fault(name, found, f"two numbers a byte, a scale each {block} and a table of 16")
        return ""
    flat = packed.flatten().long()
    places = torch.stack((flat >> 4, flat & 15), -1).flatten()[:count]
    scale = absmax.float().flatten().repeat_interleave(block)[:count]
    weight = (table.float().flatten()[places] * scale).reshape(shape)
    work.put(base, weight, scale * (2 / 15))
    return states[0].rpartition("__")[2].upper()


def nested_scales(
    work: QuantisedFolder, name: str, absmax: Tensor, nested: list[Tensor | None], fields: Fields
) -> Tensor | None:
    """Scales that were quantised once more: places in a table of 256 times the largest of a block, plus a mean."""
    largest, table = nested
    block, offset = fields.whole("nested_blocksize"), fields.document.get("nested_offset")
    if largest is None or table is None or table.numel() != 256 or type(offset) not in (int, float):
        work.fault(
            name, "scales in 8 bits, and no nested scales for them", "nested_absmax, nested_quant_map and offset"
        )
        return None
    if largest.numel() != -(-absmax.numel() // block):
        work.fault(f"{name}.nested_absmax", f"{largest.numel()} for {absmax.numel()} scales", f"one each {block}")
        return None
    spread = largest.float().flatten().repeat_interleave(block)[: absmax.numel()]
    scales: Tensor = table.float().flatten()[absmax.flatten().long()] * spread + float(str(offset))
    return scales


WAYS: dict[str, Callable[[QuantisedFolder], str]] = {
    "gptq": gptq,
    "awq": awq,
    "fp8": fp8,
    "fbgemm_fp8": fp8,
    "compressed-tensors": compressed,
    "bitsandbytes": bitsandbytes,
}
