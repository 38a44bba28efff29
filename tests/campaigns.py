"""Small campaigns for tests: the table scenario, whose runs take milliseconds, and campaigns of given outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.faults import PHASES
from hilsim.measure.injected import INJECTED
from hilsim.study.campaign import CampaignResult
from hilsim.study.execution import Row
from hilsim.study.point_result import PointResult
from hilsim.study.points import Label, grid_of
from tests.scenes import LINK, TABLE

DROP = {"kind": "link_drop", "where": ["up", "down"], "for_ms": 50}
HANG = {"kind": "hang", "where": "target", "reload_ms": 200}
SYNC = {"name": "sync", "draft_tokens": 4}
ALONE = {"name": "target_only"}


def write_campaign(folder: Path, **changes: Any) -> Path:
    """A campaign of 3 faults, 6 phases and 2 policies, with its scenario and link beside it; keys can be changed."""
    folder.mkdir(exist_ok=True)
    (folder / "link.yaml").write_text(LINK)
    table = TABLE.replace("LINK", "link.yaml").replace("requests: 1,", "requests: 3,")
    (folder / "table.yaml").write_text(table.replace("output_tokens: 11", "output_tokens: 40"))
    campaign = {"name": "small", "scenario": "table.yaml", "faults": [DROP, HANG], "policies": [ALONE, SYNC]} | changes
    file = folder / "small.yaml"
    file.write_text(json.dumps({key: value for key, value in campaign.items() if value is not None}))  # JSON is YAML
    return file


def outcome(phase: str = "", remark: str = "", **numbers: float) -> PointResult:
    """What became of a run whose fault hit in a phase, "" for one where it never began; harmless but for `numbers`."""
    metrics: dict[str, float | None] = dict.fromkeys(INJECTED)
    metrics |= {f"began.{one}": float(one == phase) for one in PHASES}
    metrics |= {
        "began": float(bool(phase)),
        "hit": float(bool(phase)),
        "survived": 1.0,
        "exact": 1.0,
        "silent": 0.0,
        **numbers,
    }
    return PointResult("", "done", metrics, remark, 0.1)


def result(file: Path, became: Callable[[Sequence[Label]], PointResult]) -> CampaignResult:
    """A campaign in which `became` gives the outcome of each run by its policy, fault and instant."""
    grid = grid_of(load_campaign(file).described, "ground")
    return CampaignResult(
        grid, [Row(one, grid.labels(one.places), became(grid.labels(one.places))) for one in grid.points()]
    )
