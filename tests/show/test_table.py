"""The one table: the same values on a terminal, in a CSV, in Parquet, as records; absent values are told apart."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from hilsim.show.table import Table, type_of

TABLE = Table.of(
    [{"name": "a", "speedup": 2.4, "count": 3}, {"name": "b & c", "speedup": math.nan, "reason": Text("too large")}]
)


def text_of(table: Table) -> list[str]:
    out = io.StringIO()
    table.print(Console(file=out, width=80))
    return out.getvalue().splitlines()


def test_columns_are_all_keys_and_records_give_them_back() -> None:
    assert TABLE.columns == ["name", "speedup", "count", "reason"]
    assert TABLE.records()[0] == {"name": "a", "speedup": 2.4, "count": 3, "reason": None}
    assert TABLE["name"] == ["a", "b & c"]
    assert len(TABLE) == 2


def test_the_terminal_shows_three_digits_and_a_dash_for_what_is_absent() -> None:
    _, first, second = text_of(TABLE)
    assert first.split() == ["a", "2.40", "3", "-"]
    assert second.split() == ["b", "&", "c", "-", "-", "too", "large"]


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.500"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")])
def test_numbers_keep_three_digits(value: float, shown: str) -> None:
    assert text_of(Table(["x"], [[value]], left=0))[1].split() == [shown]


def test_a_csv_has_all_digits_or_as_many_as_are_asked_for() -> None:
    table = Table(["x", "ok", "list", "none"], [[1 / 3, True, [1, 2], None]])
    for digits, number in ((None, "0.3333333333333333"), (6, "0.333333")):
        file = io.StringIO()
        table.write_csv(file, digits)
        assert file.getvalue() == f'x,ok,list,none\n{number},true,"[1, 2]",\n'


def test_parquet_keeps_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    Table(["a", "b", "c", "d"], [[1, 1, True, "x"], [None, 2.5, False, [1]]]).write_parquet(file, {"a": float})
    found = parquet.read_table(file)
    assert [str(kind) for kind in found.schema.types] == ["double", "double", "bool", "string"]
    assert found.to_pylist()[1] == {"a": None, "b": 2.5, "c": False, "d": "[1]"}
    assert type_of([2**70]) is float
    assert type_of([]) is str


def test_a_notebook_gets_html() -> None:
    assert "<th>speedup</th>" in TABLE._repr_html_()
    assert "<td>b &amp; c</td>" in TABLE._repr_html_()


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
def test_no_width_of_a_terminal_cuts_a_number_or_takes_a_label_away(width: int) -> None:
    columns = ["mode", "offered by", "of 1 at once", "of 16 at once", "first clause", "memory, GiB", "note", "energy"]
    row = ["draft model, sync", "genie, llama-cpp", 2.89, 1234567.0, "761 ms", 12.5, "as it is", "262 J"]
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False)
    Table(columns, [row], left=2).print(console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    for word in ("draft", "model,", "sync", "genie,", "2.89", "1,234,567", "761 ms", "12.5", "as it is", "262 J"):
        assert word in shown, (width, word)
    lines = shown.splitlines()
    if width == 200:  # wide enough: names stay in one line
        assert "of 16 at once" in lines[0]
    if width == 80:  # folded, and inside the terminal
        assert max(map(len, lines)) <= width
        assert "of 16 at once" not in shown
