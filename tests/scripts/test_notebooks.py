"""The notebooks of docs/notebooks run clean and print what is stored in them, and name nothing of a machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from hilsim.places import CODE as PROJECT
from scripts.notebooks import FOLDER, executed, printed, read

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_three_with_all_their_cells_run() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["a_study", "first_look", "my_chip_from_logs"]
    for file in NOTEBOOKS:
        cells = [cell for cell in read(file).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), file
        assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
        text = file.read_text(encoding="utf-8")
        assert not [path for path in (PROJECT, Path.home(), Path(tempfile.gettempdir())) if str(path) in text]


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_prints_what_is_stored(file: Path) -> None:
    stored = printed(read(file))
    assert sum(map(bool, stored)) > 3
    assert printed(executed(file)) == stored


@pytest.mark.slow
def test_what_is_wrong_in_a_notebook_is_found(tmp_path: Path) -> None:
    new = nbformat.v4
    file = tmp_path / "wrong.ipynb"
    stored = new.new_code_cell("print(1 + 1)", outputs=[new.new_output("stream", text="3\n")])
    nbformat.write(new.new_notebook(cells=[stored]), file)
    assert printed(read(file)) == ["3\n"] != printed(executed(file))
    nbformat.write(new.new_notebook(cells=[new.new_code_cell("1 / 0")]), file)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(file)
