"""Weights laid out in panels of a few columns, for passes of several rows: what recording a transcript multiplies with.

OpenBLAS copies both matrices of a product into a layout of its own, unless the product is small. For a few rows the
copy of the weights takes longer than the product. In panels each product is small enough to be computed in place. All
panels of a network lie in one array, which the system then maps in large pages: reading 20 MB in pages of 4 KiB is
bound by looking the pages up. All matrices of the shipped target on one core of an AMD EPYC (Zen 4), whole and as
panels: 4 rows 2.1 and 0.8 ms, 8 rows 3.1 and 1.4, 20 rows 4.7 and 2.7, 64 rows 10.8 and 9.2.

OpenBLAS computes small products in place on x86 processors with AVX-512. On others panels would be a quarter slower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from hilsim.networks.arrays import Array
from hilsim.networks.packed import Packed
from hilsim.networks.weights import Matrix

COLUMNS = 64  # of a panel: what OpenBLAS's kernels take at once
# Rows x in x columns that OpenBLAS computes in place (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c).
SMALL = 100**3
FOURS = 4  # rows: kernels take them by fours, and of fewer an even number
FEWEST = 16  # rows that a small product has to have room for
LARGEST = 16 * 2**20  # bytes of a matrix that is worth a copy


@dataclass(frozen=True)
class Panels(Matrix):
    """A linear layer whose weight also lies as panels (panels, in, COLUMNS).

    Products are those of `Matrix`, summed in another order.
    """

    panels: Array

    def __call__(self, x: Array) -> Array:
        """`x`: (rows, in)."""
        rows = len(x)
        if rows % 2:
            x = np.concatenate((x, x[-1:]))
        padded, inside = x.shape
        y = np.empty((padded, len(self.panels), COLUMNS), x.dtype)
        most, done = fitting_rows(inside), 0
        if padded > most:
            step = -(-padded // (-(-padded // most) * FOURS)) * FOURS
            pieces = padded // step
            done = pieces * step
            out = y[:done].reshape(pieces, step, *y.shape[1:]).transpose(2, 0, 1, 3)
            np.matmul(x[:done].reshape(pieces, step, inside), self.panels[:, None], out=out)
        if done < padded:
            np.matmul(x[done:], self.panels, out=y[done:].swapaxes(0, 1))
        product: Array = y.reshape(padded, -1)[:rows]
        if self.bias is not None:
            product += self.bias
        return product


def fitting_rows(inside: int) -> int:
    """Rows of `inside` numbers that a product with one panel computes in place: a multiple of four."""
    return SMALL // (inside * COLUMNS * FOURS) * FOURS


def worth_panels(matrix: Matrix) -> bool:
    """Whether products with a matrix are sooner computed in panels."""
    inside, outside = matrix.columns.shape
    return outside % COLUMNS == 0 and fitting_rows(inside) >= FEWEST and matrix.columns.nbytes <= LARGEST


def in_panels(network: Packed) -> Packed:
    """The network with copies of its weights in panels, where this processor gains by them; else itself."""
    matrices = [network.head]
    for layer in network.layers:
        matrices += [layer.qkv, layer.output, layer.gate_up, layer.down]
    chosen = [matrix for matrix in matrices if worth_panels(matrix)]
    if not chosen or not computes_small_in_place():
        return network
    together = np.empty(sum(matrix.columns.size for matrix in chosen), network.dtype)
    laid_out: dict[int, Matrix] = {}
    start = 0
    for matrix in chosen:
        inside, outside = matrix.columns.shape
        panels = together[start : start + inside * outside].reshape(-1, inside, COLUMNS)
        panels[:] = matrix.columns.reshape(inside, -1, COLUMNS).swapaxes(0, 1)
        laid_out[id(matrix)] = Panels(matrix.columns, matrix.bias, panels)
        start += inside * outside

    def found(matrix: Matrix) -> Matrix:
        return laid_out.get(id(matrix), matrix)

    layers = tuple(
        replace(
            layer,
            qkv=found(layer.qkv),
            output=found(layer.output),
            gate_up=found(layer.gate_up),
            down=found(layer.down),
        )
        for layer in network.layers
    )
    return replace(network, layers=layers, head=found(network.head))


@cache
def computes_small_in_place() -> bool:
    """Whether the processor is one for which OpenBLAS has kernels for small products.

    By its kind and not by a measurement, so that the last bits of a recording do not depend on how busy a machine is.
    """
    # NumPy leaves a list out of its configuration where it has nothing to name in it.
    extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = [*extensions.get("baseline", ()), *extensions.get("found", ())]
    return any(name.startswith("AVX512") for name in names)
