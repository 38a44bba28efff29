"""Write the JSON Schemas of described files and of a run's report into scenarios/schemas; shipped files name theirs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.describe.catalogue import FOLDERS
from hilsim.describe.schema import RECORDS, schema_of
from hilsim.describe.skeleton import SCHEMAS, with_schema_line
from hilsim.files import written
from hilsim.places import DATA
from hilsim.show.json_documents import report_schema


def main() -> int:
    """Write what has changed, and name it."""
    SCHEMAS.mkdir(exist_ok=True)
    texts = {SCHEMAS / f"{kind}.json": json.dumps(schema_of(kind), indent=1) + "\n" for kind in RECORDS}
    texts[SCHEMAS / "report.json"] = json.dumps(report_schema(), indent=1) + "\n"
    for kind in RECORDS:
        for file in (DATA / FOLDERS[kind]).glob("*.yaml"):
            texts[file] = with_schema_line(kind, file.read_text(encoding="utf-8"), file)
    for file, text in texts.items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            with written(file) as path:
                path.write_text(text, encoding="utf-8")
            print(file.relative_to(DATA))
    return 0


if __name__ == "__main__":
    sys.exit(main())
