"""What MkDocs adds to docs/: the README as first page, reference pages made from the code, linked files from outside.

Links that leave docs/ lead to pages under project/: Markdown as it is, other text as a listing, a folder as a list.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import COMMANDS, parser_of
from hilsim.describe.keys import Key, by_block, example_of, keys_of, name_of
from hilsim.describe.schema import RECORDS, schema_of
from hilsim.fidelity.from_file import validate
from hilsim.show.fidelity import print_validation, what
from hilsim.show.json_documents import DOCUMENTS, document_keys

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)]*)?(\))")
PICTURES = (".png", ".svg")
LANGUAGES = {".yaml": "yaml", ".py": "python", ".json": "json", ".jsonl": "json", ".csv": "text", "": "text"}
UNBROKEN = "<style>td:first-child code { white-space: nowrap; }</style>"  # names of keys in the first column
MOST_LISTED = 100_000  # characters of a listing
SHIM = "iframe-worker-shim.js"  # with which the search works in a site that is opened from a folder


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no files of docs/."""
    from mkdocs.structure.files import File

    made = {"index.md": moved(ROOT / "README.md", "index.md"), **reference_pages()}
    docs = Path(config["docs_dir"])
    pages = {file.src_uri: (docs / file.src_uri).read_text(encoding="utf-8") for file in files.documentation_pages()}
    waiting = [target for page, text in pages.items() for target in left(docs / page, text)]
    waiting += [
        target for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGES.md") for target in [ROOT / name]
    ]
    waiting += left(ROOT / "README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    done: set[Path] = set()
    while waiting:
        target = waiting.pop()
        if target in done or target.suffix in PICTURES or target.is_relative_to(docs) or target == ROOT / "README.md":
            continue
        done.add(target)
        place = page_of(target)
        made[place] = project_page(target, place)
        if target.suffix == ".md":
            waiting += left(target, target.read_text(encoding="utf-8"))
        elif target.is_dir():
            waiting += [one for one in inside(target) if one.is_file()]
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    for notebook in sorted(docs.glob("notebooks/*.ipynb")):
        for place, content in notebook_page(notebook).items():
            files.append(File.generated(config, f"notebooks/{place}", content=content))
    files.append(File.generated(config, f"assets/{SHIM}", abs_src_path=str(ROOT / "scripts" / "site" / SHIM)))
    return files


def notebook_page(file: Path) -> dict[str, str | bytes]:
    """A notebook, with what its cells printed, as a page; and the pictures that it shows."""
    from nbconvert import MarkdownExporter

    text, extracted = MarkdownExporter().from_filename(str(file), resources={"output_files_dir": f"{file.stem}_files"})
    title, _, rest = text.lstrip().partition("\n")
    rest = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", rest)
    page = f"{title}\n\n[The notebook as a file]({file.name}), to be run and changed.\n{rest}"
    return {f"{file.stem}.md": page, **extracted["outputs"]}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of a page of docs/ that leave it to the pages under project/."""
    source = Path(config["docs_dir"]) / page.file.src_uri
    return relinked(markdown, source, page.file.src_uri) if source.exists() else markdown


def left(page: Path, text: str) -> list[Path]:
    """The files outside docs/ that a page links to."""
    found = [Path(os.path.normpath(page.parent / target)) for _, target, _, _ in LINK.findall(unfenced(text))]
    return [target for target in found if target.exists() and not target.is_relative_to(ROOT / "docs")]


def unfenced(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def page_of(target: Path) -> str:
    """The page of a file outside docs/."""
    if target == ROOT / "README.md":
        return "index.md"
    place = f"project/{target.relative_to(ROOT).as_posix()}"
    return place if target.suffix == ".md" else f"{place}/listing.md" if target.is_dir() else f"{place}.md"


def relinked(text: str, source: Path, place: str) -> str:
    """A page's text, with links relative to where it is shown; `source` is where it lies."""

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / found[2]))
        if not target.exists():
            return found[0]
        if target.is_relative_to(ROOT / "docs"):
            shown = target.relative_to(ROOT / "docs").as_posix()
        elif target.suffix in PICTURES:
            return found[0]
        else:
            shown = page_of(target)
        return f"{found[1]}{os.path.relpath(shown, os.path.dirname(place) or '.')}{found[3] or ''}{found[4]}"

    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def moved(source: Path, place: str) -> str:
    """A page of Markdown from outside docs/; a tag in square brackets would be taken for a reference."""
    text = re.sub(r"\[(NEW|FIX|CHANGE|BREAKING)\]", r"**\1**", source.read_text(encoding="utf-8"))
    return relinked(text, source, place)


def inside(folder: Path) -> list[Path]:
    """What a folder's page lists."""
    return sorted(one for one in folder.iterdir() if one.suffix in LANGUAGES or one.suffix == ".md")


def project_page(target: Path, place: str) -> str:
    """The page of a file or folder outside docs/."""
    name = target.relative_to(ROOT).as_posix()
    if target.suffix == ".md":
        return moved(target, place)
    if target.is_dir():
        here = os.path.dirname(place)
        rows = [f"- [{one.name}]({os.path.relpath(page_of(one), here)})" for one in inside(target) if one.is_file()]
        return f"# {name}\n\n" + "\n".join(rows) + "\n"
    text = target.read_text(encoding="utf-8")
    if len(text) > MOST_LISTED:
        return f"# {name}\n\n{len(text):,} characters: too long to be listed.\n"
    return f"# {name}\n\n````{LANGUAGES.get(target.suffix, 'text')}\n{text}\n````\n"


def reference_pages() -> dict[str, str]:
    """The pages made from records, parsers and docstrings."""
    pages = {f"reference/keys_{kind}.md": keys_page(kind) for kind in RECORDS}
    listed = [f"- [{kind}](keys_{kind}.md): {summary(kind)}" for kind in RECORDS]
    about = (
        "Every key of the described files, made from the records that check them. `hilsim explain KEY` prints the same."
    )
    pages["reference/keys.md"] = "\n".join([f"# Keys\n\n{about}\n", *listed, ""])
    pages["reference/report.md"] = report_page()
    pages["reference/documents.md"] = documents_page()
    pages["reference/commands.md"] = commands_page()
    pages["fidelity/rows.md"] = fidelity_page()
    pages["reference/python.md"] = "# Python\n\n::: hilsim.api\n    options: {show_root_heading: false}\n"
    return pages


def summary(kind: str) -> str:
    """The first sentence of what a kind of file is."""
    return " ".join(schema_of(kind)["description"].partition("\n\n")[0].split())


def fidelity_page() -> str:
    """What `validate` says of the shipped measurements, with every row, the worst first."""
    found, printed = validate(), io.StringIO()
    print_validation(Console(file=printed, width=100), found, "chips/measurements/measured.csv", summary_alone=True)
    lines = [
        "---", "hide: [toc]", "---", "", "# Every published row, misses first", "",
        "Made from `python -m hilsim validate` with this site. Errors are predicted over measured time, less 1: as",
        "shipped (in-sample), fitted without the row's model, and without its device; sorted by the largest of",
        "the three.", "",
        "| device | model | measured of | measured, ms | predicted, ms | error | without model | without device |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for row in sorted(found.rows, key=lambda row: -max(abs(error) for error in row.errors if error is not None)):
        case = row.case
        errors = ("" if error is None else f"{error:+.0%}" for error in row.errors)
        of, times = f"{case.label}: {what(row)}", (f"{row.measured * 1e3:.4g}", f"{row.predicted[0] * 1e3:.4g}")
        lines.append(
            f"| {' | '.join(map(cell, (case.device, case.model_group.split(' / ')[-1], of, *times, *errors)))} |"
        )
    return "\n".join([*lines, "", "## By class", "", f"```text\n{printed.getvalue()}```", ""])


def cell(text: str) -> str:
    """Text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def keys_page(kind: str) -> str:
    """All keys of a kind of file, a table a block."""
    lines = [f"# Keys of a {kind}", "", UNBROKEN, "", schema_of(kind)["description"], ""]
    for block in by_block(keys_of(kind)):
        if block.path:
            named = f", `{block.tag}`: {block.name}" if block.tag else f" ({block.name})" if block.name else ""
            lines += ["", f"## {block.path}{named}", "", block.about, ""]
        if block.keys:
            lines += ["| key | meaning | takes | example |", "| --- | --- | --- | --- |"]
            lines += map(row, block.keys)
    return "\n".join([*lines, ""])


def row(key: Key) -> str:
    """A key as a row."""
    default = "; required" if key.required else f"; default `{key.default}`" if key.default else ""
    value, _ = example_of(key)
    example = f"`{value}`" if value and len(value) <= 40 else ""
    cells = (f"`{name_of(key)}`", key.meaning, f"{key.limits}{default}", example)
    return f"| {' | '.join(map(cell, cells))} |"


HOW_TO_READ = (
    "A dot goes one block down, `a|b` is either key, `*` any text (a chip, a unit, a name), a last `**` all that lies "
    "below; items of a list have the list's own path. What cannot be computed is null."
)


def report_page() -> str:
    """Every key of the document of a run."""
    about = (
        "`hilsim simulate --json` prints one document, `--out DIR` writes it as report.json, and in Python it is "
        f"`run.report`. {HOW_TO_READ} The same as JSON Schema: `scenarios/schemas/report.json`. Other commands' "
        "documents are [on a page of their own](documents.md)."
    )
    return "\n".join(["# Report of a run, as JSON", "", UNBROKEN, "", about, "", *keys_table("simulate --json")])


def documents_page() -> str:
    """Every key of the documents of the other commands."""
    about = f"What `--json` prints. {HOW_TO_READ} The report of a run is [on its own page](report.md)."
    lines = ["# JSON of other commands", "", UNBROKEN, "", about, ""]
    for command in DOCUMENTS:
        if command != "simulate --json":
            lines += [f"## {command}", "", *keys_table(command)]
    return "\n".join(lines)


def keys_table(command: str) -> list[str]:
    """The keys of a command's document as a table."""
    rows = [f"| `{cell(key.pattern)}` | {cell(key.unit)} | {cell(key.meaning)} |" for key in document_keys(command)]
    return ["| key | unit | meaning |", "| --- | --- | --- |", *rows, ""]


def commands_page() -> str:
    """Every command with its options, as its --help has them."""
    whole = parser_of(COMMANDS, "hilsim")
    [commands] = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    lines = [
        "# Commands",
        "",
        "`hilsim COMMAND`, or `python -m hilsim COMMAND`. Exit status: 0 done; 1 ran, and the answer is ",
    ]
    lines += ["bad news; 2 the input is at fault; 130 interrupted.", ""]
    for name, parser in commands.choices.items():
        lines += [f"## {name}", "", parser.description or "", "", "| argument | meaning |", "| --- | --- |"]
        lines += list(arguments(parser._actions))
        lines.append("")
    return "\n".join(lines)


def arguments(actions: Iterable[argparse.Action]) -> Iterator[str]:
    """The arguments of a command as rows."""
    for action in actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        takes = metavar if action.nargs != 0 else ""
        names = ", ".join(action.option_strings) or metavar
        shown = f"`{names} {takes}`" if action.option_strings and takes else f"`{names}`"
        yield f"| {cell(shown)} | {cell(str(action.help or ''))} |"
