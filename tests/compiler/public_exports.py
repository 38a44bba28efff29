"""Exports that people reported in public, each as a small module in our own words: what failed, and what worked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.describe.chip import Activations

TODAY, YEAR_2023, NEWER = "sa8295_today", "sa8295_2023", "hexagon_v73"
TRT8, TRT10, DLA = "orin_trt_8_6", "orin_trt_10", "orin_dla"


@dataclass(frozen=True)
class Report:
    """Where it was reported, the pattern, and what is to be found.

    `rule` at `operator` (or, of an export that fails, a part of the message in `operator`) with this severity, inside
    the module `at`. `release` replaces that of the profile's tools.
    """

    issue: str
    what: str
    build: Callable[[], tuple[nn.Module, tuple[Any, ...]]]
    profile: str
    rule: str = ""
    operator: str = ""
    severity: str = "error"
    at: str = ""
    activations: Activations = "fp16"
    release: float | None = None
    rewritten: bool = False  # whether a rewrite takes it away


class Part(nn.Module):
    """A function as a module of its own, so that a finding can name it."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.register_module(name, part) if isinstance(part, nn.Module) else self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class Whole(nn.Module):
    """A network around the part in question."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, *inputs: Tensor) -> Any:
        return self.part(*inputs)


def of(function: Callable[..., Any], *inputs: Tensor, **parts: Any) -> Callable[[], tuple[nn.Module, tuple[Any, ...]]]:
    """What builds a module of a function on `self` and its inputs."""
    return lambda: (Whole(Part(function, **parts)).eval(), inputs)


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def ids(*shape: int, most: int = 8) -> Tensor:
    return torch.randint(most, shape, generator=torch.Generator().manual_seed(7))


def attention(self: Part, h: Tensor) -> Tensor:
    q, k, v = (layer(h).unflatten(-1, (2, -1)).transpose(1, 2) for _, layer in self.named_children())
    return torch.softmax(q @ k.transpose(-1, -2) * 0.5, -1) @ v


def projections() -> dict[str, nn.Module]:
    return {name: nn.Linear(8, 8) for name in ("q", "k", "v")}


def swapped(self: Part, h: Tensor) -> Tensor:
    """Windows of a picture."""
    b, height, width, c = h.shape
    return h.view(b, height // 4, 4, width // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)


def long_rope(self: Part, h: Tensor, places: Tensor) -> Tensor:
    return h * 2 if int(places.max()) + 1 > 16 else h


def turned(self: Part, h: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(h.unflatten(-1, (-1, 2))) * self.turns).flatten(-2)


FAILED = (
    Report("pytorch/executorch PR 21607", "Mamba2 on QNN: the causal mask is ~tril, and no visitor takes bitwise_not",
           of(lambda self, h, seen: h.masked_fill(~seen.tril(), 0.0), x(1, 6, 6), torch.ones(6, 6).bool()), TODAY,
           "operator-missing", "aten.bitwise_not.default", at="part", rewritten=True),
    Report("pytorch/executorch 14052", "Swin on QNN: a permutation of rank 6 for windows", of(swapped, x(1, 8, 8, 4)),
           TODAY, "rank", "aten.permute.default", at="part", rewritten=True),
    Report("pytorch/executorch PR 22253", "Mamba2 on QNN: intermediates of rank 6 in the chunked scan",
           of(lambda self, a, b: (a[:, :, :, :, None] * b).sum(-1), x(1, 2, 3, 2, 4), x(1, 2, 3, 2, 2, 4)), TODAY,
           "rank", "aten.mul.Tensor", at="part", rewritten=True),
    Report("onnxruntime/onnxruntime-qnn PR 51", "Gather of rank 6 on QNN",
           of(lambda self, h, i: h.index_select(2, i), x(1, 2, 4, 2, 2, 3), ids(3, most=4)), TODAY, "rank",
           "aten.index_select.default", at="part", rewritten=True),
    Report("pytorch/executorch 17296", "BERT on SA8295 at 16-bit activations: products of two activations need v73",
           of(attention, x(1, 4, 8), **projections()), TODAY, "no-16x16-matmul", "aten.bmm.default", at="part",
           activations="int16"),
    Report("pytorch/executorch 16427", "layer_norm and matmul of SA8295 at 16 bits are not delegated",
           of(lambda self, h: self.norm(h), x(1, 4, 8), norm=nn.LayerNorm(8)), TODAY, "layernorm-16-bit",
           "aten.native_layer_norm.default", "warning", "part.norm", "int16"),
    Report("microsoft/onnxruntime 22319", "ScatterND has no builder in the QNN provider of 2024 (a cache is written)",
           of(lambda self, c, n, i: c.index_put((i,), n), x(6, 4), x(1, 4), ids(1)), YEAR_2023, "operator-missing",
           "aten.index_put.default", at="part"),
    Report("microsoft/onnxruntime 22962", "ScatterElements has no builder in the QNN provider of 2024",
           of(lambda self, c, i, n: c.scatter(1, i, n), x(2, 6), ids(2, 3, most=6), x(2, 3)), YEAR_2023,
           "operator-missing", "aten.scatter.src", at="part", rewritten=True),
    Report("microsoft/onnxruntime PR 24820", "CumSum has no builder in the QNN provider before 2025",
           of(lambda self, h: h.cumsum(-1), x(2, 6)), YEAR_2023, "operator-missing", "aten.cumsum.default", at="part",
           rewritten=True),
    Report("pytorch/executorch 8468", "Kokoro speech: an LSTM, which the QNN tools of that time do not list",
           of(lambda self, h: self.lstm(h)[0], x(1, 5, 4), lstm=nn.LSTM(4, 4, batch_first=True)), YEAR_2023,
           "operator-missing", "aten.lstm.input", at="part.lstm", rewritten=True),
    Report("qualcomm/ai-hub-models 68", "int64 inputs want --truncate_64bit_io",
           of(lambda self, i: self.table(i), ids(1, 4), table=nn.Embedding(8, 4)), TODAY, "int64",
           "inputs_0", "note"),
    Report("facebookresearch/sam2 186", "rotary positions by complex numbers: ComplexFloat is no type of a converter",
           of(turned, x(1, 3, 8), turns=torch.polar(torch.ones(3, 4), torch.randn(3, 4))), TODAY, "number-format",
           "aten.view_as_complex.default", at="part", rewritten=True),
    Report("NVIDIA/TensorRT 4666", "GridSample on TensorRT 8.2 (JetPack 4.6)",
           of(lambda self, h, g: F.grid_sample(h, g), x(1, 2, 4, 4), x(1, 3, 3, 2)), TRT8, "operator-missing",
           "aten.grid_sampler_2d.default", at="part", release=8.2),
    Report("EquationWalker/CATANet 6", "TopK of more than 3840 on TensorRT 10.9",
           of(lambda self, h: h.topk(4000)[1], x(1, 8000)), TRT10, "topk-k", "aten.topk.default", at="part"),
    Report("microsoft/onnxruntime 3821", "TensorRT: weights outside the range of INT32 were clamped (Faster R-CNN)",
           of(lambda self, i: i + self.far, ids(4), far=torch.tensor([2**40, 1, 2, 3])), TRT8, "constant-range",
           "aten.add.Tensor", at="part"),
    Report("JosephChenHub/CenterNet-TensorRT 7", "peaks by a comparison cast to uint8: no such type inside",
           of(lambda self, h: (h == h.amax()).to(torch.uint8).float() * h, x(1, 4, 4)), TRT8, "number-format",
           "aten._to_copy.default", at="part", rewritten=True),
    Report("onnx/onnx-tensorrt PR 1028", "an ellipsis in Einsum, which came with TensorRT 10.12",
           of(lambda self, a, b: torch.einsum("...ij,...jk->...ik", a, b), x(2, 3, 4), x(2, 4, 3)), TRT8,
           "einsum-equation", "aten.einsum.default", at="part"),
    Report("NVIDIA/TensorRT 2466", "RoBERTa in fp16: a mask times -999999995904 becomes infinite",
           of(lambda self, s, m: torch.softmax(s + (1.0 - m.float()) * -999999995904.0, -1), x(1, 4, 4),
              ids(1, 1, 4, most=2)), TRT8, "constant-range", "aten.mul.Tensor", at="part", rewritten=True),
    Report("ultralytics/ultralytics 18012", "YOLO11 on the DLA: concatenation along another axis than the channels",
           of(lambda self, h: torch.cat((self.one(h), self.two(h)), 2), x(1, 4, 8, 8), one=nn.Conv2d(4, 4, 1),
              two=nn.Conv2d(4, 4, 1)), DLA, "concat-channels", "aten.cat.default", at="part"),
    Report("ultralytics/ultralytics PR 16449", "YOLOv8 on the DLA: it has no division of two tensors",
           of(lambda self, a, b: a / (b * b + 1.0), x(1, 4, 8, 8), x(1, 4, 8, 8)), DLA, "operator-missing",
           "aten.div.Tensor", at="part"),
    Report("NVIDIA/TensorRT 2318", "attention on the DLA: a product of two activations",
           of(attention, x(1, 4, 8), **projections()), DLA, "constant-second-operand", "aten.bmm.default", at="part"),
    Report("forums.developer.nvidia.com 219158", "a bilinear resizing on the DLA by other than half-pixel centres",
           of(lambda self, h: F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True), x(1, 4, 4, 4)),
           DLA, "resize-corners", "aten.upsample_bilinear2d.vec", at="part"),
    Report("pytorch/pytorch 163791", "Phi-3.5: rotary positions chosen by an if on the longest position",
           of(long_rope, x(1, 4), ids(4)), TODAY, operator="control flow"),
    Report("OHF-Voice/piper1-gpl 148", "a voice whose lengths depend on the data: a selection by a mask",
           of(lambda self, h: h[h > 0] * 2, x(4, 4)), TODAY, "data-dependent-size", "aten.index.Tensor", at="part"),
)  # fmt: skip


def activated(before: int, behind: int, size: int, activation: nn.Module | None = None, **more: Any) -> nn.Sequential:
    """A convolution, its norm and its activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(before, behind, size, padding=size // 2, bias=False, **more),
        nn.BatchNorm2d(behind),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation]))


class Residual(nn.Module):
    """x plus what some layers make of it."""

    def __init__(self, *layers: nn.Module, after: nn.Module | None = None):
        super().__init__()
        self.layers, self.after = nn.Sequential(*layers), after or nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        made: Tensor = self.after(h + self.layers(h))
        return made


class Excitation(nn.Module):
    """Channels weighted by what all of the picture says."""

    def __init__(self, channels: int):
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        weights = F.hardsigmoid(self.two(F.relu(self.one(h.mean((2, 3), keepdim=True)))))
        return h * weights


class Pyramid(nn.Module):
    """Poolings of growing reach beside each other, then a step up and a join, as YOLO has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = activated(8, 4, 1, nn.SiLU()), activated(16, 8, 1, nn.SiLU())

    def forward(self, h: Tensor) -> Tensor:
        parts = [self.first(h)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        made = self.last(torch.cat(parts, 1))
        return torch.cat((F.interpolate(made, scale_factor=2), F.interpolate(h, scale_factor=2)), 1)


class Encoder(nn.Module):
    """A block of a vision transformer or a text encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.mixed = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, h: Tensor) -> Tensor:
        n = self.norm(h)
        h = h + self.mixed(n, n, n, need_weights=False)[0]
        return h + self.wide(self.after(h))


def sequence(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


EXAMPLES = "pytorch/executorch examples/qualcomm"
WORKED: tuple[tuple[str, str, str, nn.Module, tuple[Any, ...], Activations], ...] = (
    (f"{EXAMPLES}/scripts/mobilenet_v2.py", "MobileNetV2's inverted residual", TODAY,
     Residual(activated(8, 24, 1, nn.ReLU6()), activated(24, 24, 3, nn.ReLU6(), groups=24), activated(24, 8, 1)),
     (x(1, 8, 8, 8),), "int8"),
    (f"{EXAMPLES}/scripts/mobilenet_v3.py", "MobileNetV3's block with excitation", TODAY,
     Residual(activated(8, 16, 5, nn.Hardswish(), groups=8), Excitation(16), activated(16, 8, 1)),
     (x(1, 8, 8, 8),), "int8"),
    (f"{EXAMPLES}/scripts/inception_v3.py", "Inception's branches of several windows", TODAY,
     sequence(activated(8, 8, 3, nn.ReLU(), stride=2), nn.MaxPool2d(3, 2), activated(8, 8, 1, nn.ReLU()),
              nn.AvgPool2d(3, 1, 1)),
     (x(1, 8, 16, 16),), "int8"),
    (f"{EXAMPLES}/scripts/torchvision_vit.py", "ViT's block in fp16", TODAY, Encoder(), (x(1, 5, 8),), "fp16"),
    (f"{EXAMPLES}/scripts/edsr.py", "EDSR: residual blocks and pixel shuffle", TODAY,
     sequence(nn.Conv2d(3, 8, 3, padding=1),
              Residual(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
              nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)), (x(1, 3, 8, 8),), "int8"),
    (f"{EXAMPLES}/scripts/deeplab_v3.py", "DeepLab: dilated convolutions and bilinear resizing", TODAY,
     sequence(nn.Conv2d(4, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8), nn.ReLU(),
              nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)), (x(1, 4, 8, 8),), "int8"),
    ("pytorch/executorch PR 5924", "wav2letter: convolutions along time", TODAY,
     sequence(nn.Conv1d(4, 8, 5, 2, 2), nn.ReLU(), nn.Conv1d(8, 8, 7, padding=3), nn.ReLU(), nn.Conv1d(8, 5, 1),
              nn.LogSoftmax(1)),
     (x(1, 4, 32),), "int8"),
    ("NVIDIA/Deep-Learning-Accelerator-SW scripts/prepare_models/resnet50.py", "ResNet-50's bottleneck on the DLA", DLA,
     sequence(activated(8, 8, 7, nn.ReLU(), stride=2), nn.MaxPool2d(3, 2, 1),
              Residual(activated(8, 4, 1, nn.ReLU()), activated(4, 4, 3, nn.ReLU()), activated(4, 8, 1),
                       after=nn.ReLU())),
     (x(1, 8, 32, 32),), "fp16"),
    ("ultralytics/ultralytics PR 16449, comment of 2024-10-14", "YOLOv8's pooling pyramid and join on TensorRT", TRT8,
     Pyramid(), (x(1, 8, 8, 8),), "fp16"),
    ("NVIDIA/TensorRT demo/BERT", "BERT's block on TensorRT", TRT8, Encoder(), (x(1, 5, 8),), "fp16"),
)  # fmt: skip
