"""A transcript as columns, and the arrays of its file: each is checked for type and size before it is read."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hilsim.errors import Misfit

VERSION = 2
UNKNOWN = -1  # a place of a continuation that was not recorded, or lies after its end of turn
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
INTEGERS = ("index", "conversation", "turn", "prompt", "prompt_end", "answer", "answer_end", "after")
FLOATS = ("margin", "after_margin")
SURE = ("confidence", "entropy")
WAYS = ("drafted", *SURE)  # stored without their empty places
COLUMNS = (*INTEGERS, *FLOATS, *WAYS)
# Columns as a file has them: whole numbers, or float64 values as eight planes of bytes; by (requests), (tokens) ...
PLANES = (*FLOATS, *SURE)
SHAPES = dict.fromkeys(("header", "ways", *COLUMNS), (0,)) | {"after": (0, 0), "after_margin": (0, 0)}
WHOLE, BYTES = ("<i2", "<i4"), ("|u1",)
MOST_DEPTH = 1000  # as `record --depth` takes
MOST_BYTES = 2**28  # of all columns together
MOST_GROWTH = 1032  # of a deflated byte, by the format
SPARE_BYTES = 1024
ENCRYPTED = 1
REMEDY = "Record it again: python -m hilsim record SCENARIO --out FILE."


@dataclass(frozen=True)
class Transcript:
    """Columns of a recording; `header` names the models and the rules that made it.

    `index` is a request's number in the workload, -1 where the context had no room for it. `prompt` and `answer`
    hold all requests one after the other, `prompt_end` and `answer_end` (requests,) are where each ends; `margin` goes
    with the answers. `after` and `after_margin` (requests, some) are the target's tokens after its answer: a verdict
    needs them where drafts went on past an end of turn. `drafted`, `confidence` and `entropy` have a row (depth,) for
    every position of an answer; where the draft proposes the target's own token the row has that one alone, as the
    next row goes on.
    """

    header: dict[str, Any]
    index: Ints
    conversation: Ints
    turn: Ints
    prompt: Ints
    prompt_end: Ints
    answer: Ints
    answer_end: Ints
    margin: Floats
    after: Ints
    after_margin: Floats
    drafted: Ints
    confidence: Floats
    entropy: Floats

    @property
    def requests(self) -> int:
        return len(self.turn)

    @property
    def depth(self) -> int:
        """The longest continuation."""
        return int(self.drafted.shape[1])


def narrow(integers: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The same numbers in 16 bits where they fit."""
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    return integers.astype(np.int16 if low >= -(2**15) and high < 2**15 else np.int32)


def planes(floats: Floats) -> npt.NDArray[np.uint8]:
    """The bytes of float64 values, (8, ...): first bytes, second bytes ...; similar bytes together compress well."""
    apart = np.ascontiguousarray(floats, "<f8")[..., None].view(np.uint8)
    return np.ascontiguousarray(np.moveaxis(apart, -1, 0))


def from_planes(planes: npt.NDArray[np.uint8]) -> Floats:
    """The float64 values of eight byte planes; the inverse of `planes`."""
    together = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    floats: Floats = together.view("<f8")[..., 0]
    return floats


def require(right: bool | np.bool_, found: str, expected: str) -> None:
    """Raise `Misfit(found, expected)` unless `right`."""
    if not right:
        raise Misfit(found, expected)


class TranscriptColumns:
    """The members of an `.npz` file; each is checked for type and size before it is read. Raises `Misfit`."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        names = [member.filename for member in archive.infolist()]
        wanted = [f"{name}.npy" for name in ("header", "ways", *COLUMNS)]
        if unknown := [name for name in names if name not in wanted]:
            raise Misfit(f"a member {unknown[0]!r:.60}", "only the columns of a transcript")
        require(len(names) == len(set(names)), "a column twice", "each column once")
        whole = sum(member.file_size for member in archive.infolist())
        require(whole <= MOST_BYTES, f"columns of {whole} bytes", f"at most {MOST_BYTES} in all")

    def read(self, name: str) -> npt.NDArray[Any]:
        """A column: int32, float64, or bytes of the header."""
        require(
            f"{name}.npy" in self.archive.namelist(), f"no column {name}", f"{', '.join(('header', 'ways', *COLUMNS))}"
        )
        member = self.archive.getinfo(f"{name}.npy")
        # The compressed size bounds what a member can expand to.
        most = member.compress_size * (MOST_GROWTH if member.compress_type == zipfile.ZIP_DEFLATED else 1) + SPARE_BYTES
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        require(member.compress_type in kinds, f"{name}, compressed in another way", "stored or deflated members")
        require(not member.flag_bits & ENCRYPTED, f"{name}, encrypted", "plain members")
        require(
            member.file_size <= most,
            f"{name} of {member.file_size} bytes",
            f"at most what {member.compress_size} compressed bytes expand to",
        )
        with self.archive.open(member) as stream:
            shape, in_columns, dtype = header_of_array(stream)
            allowed, dimensions = (BYTES, len(SHAPES[name]) + 1) if name in PLANES else (WHOLE, len(SHAPES[name]))
            allowed = BYTES if name == "header" else allowed
            described = f"{name} of {dtype.str} {list(shape)!s:.60}"
            require(dtype.str in allowed, described, f"numbers of type {' or '.join(allowed)}")
            require(not in_columns and len(shape) == dimensions, described, f"{dimensions} dimensions, rows first")
            nbytes = math.prod(shape) * dtype.itemsize
            require(nbytes <= member.file_size, described, f"no more than its {member.file_size} bytes hold")
            data = stream.read(nbytes + 1)
        require(len(data) == nbytes, f"{described}, and {len(data)} bytes of it", f"{nbytes} bytes")
        array = np.frombuffer(data, dtype).reshape(shape)
        if name in PLANES:
            require(shape[0] == 8, described, "eight planes of bytes")
            return from_planes(array)
        return array if name == "header" else array.astype(np.int32)


def header_of_array(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype of an array in NumPy's format."""
    version = np.lib.format.read_magic(stream)
    require(version == (1, 0), f"an array of format {version}", "format (1, 0)")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    require(all(0 <= size <= MOST_BYTES for size in shape), f"a shape {list(shape)!s:.60}", "sizes from 0")
    return shape, in_columns, dtype
