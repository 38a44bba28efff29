"""Activations from exponentials, minima and maxima. Approximations state their largest error and are judged by it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite

# Largest absolute differences to gelu by erf, rounded up; a test measures them again in float64.
TANH_BOUND = 5e-4
POLYNOMIAL_BOUND = 5e-7


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)); exp may overflow to inf, whose inverse is the right 0."""
    return 1.0 / (torch.exp(-x) + 1.0)


def tanh(x: Tensor) -> Tensor:
    """1 - 2 / (exp(2x) + 1)."""
    return 1.0 - 2.0 / (torch.exp(x * 2.0) + 1.0)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return x / (torch.exp(-x) + 1.0)


def gelu_tanh(x: Tensor, approximate: str = "none") -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which is x times a sigmoid."""
    return x * sigmoid((x + x * x * x * 0.044715) * (2 * math.sqrt(2 / math.pi)))


def gelu_polynomial(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function, erf by polynomial 7.1.26 of Abramowitz and Stegun (error 1.5e-7)."""
    size = torch.maximum(x, -x) * math.sqrt(0.5)
    t = 1.0 / (size * 0.3275911 + 1.0)
    series = ((((t * 1.061405429 - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    tail = series * torch.exp(-(size * size)) * 0.5  # what is left of the distribution beyond |x|
    return x * torch.where(x > 0, 1.0 - tail, tail)


def hardsigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    zero, six = torch.zeros((), dtype=x.dtype), torch.full((), 6.0, dtype=x.dtype)
    return torch.minimum(torch.maximum(x + 3.0, zero), six) / 6.0


def hardswish(x: Tensor) -> Tensor:
    """x times hardsigmoid."""
    return x * hardsigmoid(x)


def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself above the threshold. The exponent is never positive."""
    scaled = x * beta
    zero = torch.zeros((), dtype=x.dtype)
    curve = torch.maximum(scaled, zero) + torch.log(torch.exp(torch.minimum(scaled, -scaled)) + 1.0)
    return torch.where(scaled > threshold, x, curve / beta)


def fits_tanh(node: fx.Node) -> str:
    return "" if node.kwargs.get("approximate", "none") == "tanh" else "it is the gelu by erf"


def fits_erf(node: fx.Node) -> str:
    return "" if node.kwargs.get("approximate", "none") == "none" else "it is the gelu by tanh"


ROUNDING = "rounding of another formula"
GELU = ("aten.gelu.default",)

REWRITES = (
    Rewrite("sigmoid_by_exp", "1 / (1 + exp(-x))", ("aten.sigmoid.default",), "rounding", sigmoid, caveat=ROUNDING,
            domain="moderate"),
    Rewrite("tanh_by_exp", "1 - 2 / (exp(2x) + 1)", ("aten.tanh.default",), "rounding", tanh,
            caveat=f"{ROUNDING}; near 0 the relative error grows, the absolute one does not", domain="moderate",
            bound=2e-7),
    Rewrite("silu_by_exp", "x / (1 + exp(-x))", ("aten.silu.default",), "rounding", silu, caveat=ROUNDING,
            domain="moderate"),
    Rewrite("gelu_by_exp", "the tanh in it by exp", GELU, "rounding", gelu_tanh, fits_tanh, caveat=ROUNDING,
            source="Hendrycks and Gimpel 2016", domain="moderate"),
    Rewrite("gelu_by_polynomial", "the erf in it by a polynomial", GELU, "rounding", gelu_polynomial, fits_erf,
            caveat=f"an approximation: absolute error up to {POLYNOMIAL_BOUND:g}",
            source="Abramowitz and Stegun 1964, 7.1.26", domain="moderate", bound=POLYNOMIAL_BOUND),
    Rewrite("gelu_by_tanh", "the tanh form in place of erf", GELU, "rounding", gelu_tanh, fits_erf,
            caveat=f"an approximation: absolute error up to {TANH_BOUND:g}", source="Hendrycks and Gimpel 2016",
            domain="moderate", bound=TANH_BOUND),
    Rewrite("hardsigmoid_by_bounds", "minimum, maximum and division", ("aten.hardsigmoid.default",), "rounding",
            hardsigmoid, caveat=ROUNDING, domain="moderate"),
    Rewrite("hardswish_by_bounds", "x times minimum and maximum", ("aten.hardswish.default",), "rounding", hardswish,
            caveat=ROUNDING, domain="moderate"),
    Rewrite("softplus_by_exp", "maximum plus log(1 + exp(-|x|))", ("aten.softplus.default",), "rounding", softplus,
            caveat=f"{ROUNDING}; far below 0 the relative error grows, the absolute one does not", domain="moderate",
            bound=2e-7),
)  # fmt: skip
