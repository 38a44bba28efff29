"""A campaign as a picture: how much longer an answer takes, by fault and policy, with marks of what is worse."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np

from hilsim.show.campaign import LEGEND, cost_text, marks, short_names
from hilsim.show.plots.curves import BLACK_AND, colour_bar, finished, sheet, write_in_fields
from hilsim.study.campaign import CampaignResult

LEAST_MS = 1.0  # the scale is logarithmic from here on
WORSE = BLACK_AND[2]  # round fields that are not survived, or whose text is wrong and nothing noticed it
LABEL = 34  # characters of a fault's name in a line


def draw_campaign(found: CampaignResult, title: str, path: Path, kind: str) -> None:
    """A field for each fault under each policy: p99 of the added latency, bright where it is short, grey without one.

    The worst fault is at the top, the policy that survives best on the left.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    faults, policies = [group.fault for group in found.faults], [group.policy for group in found.policies]
    cells = {(faults.index(group.fault), policies.index(group.policy)): group for group in found.cells}
    field = np.full((len(faults), len(policies)), np.nan)
    for place, group in cells.items():
        if (added := group.percentile("added_ms", "p99")) is not None:
            field[place] = added
    figure, panels = sheet(1, 1, 4.4 + 1.25 * len(policies), 1.9 + 0.36 * len(faults))
    axes = panels[0][0]
    axes.set_facecolor("0.85")
    longest = np.nanmax(field) if np.isfinite(field).any() else LEAST_MS
    norm = LogNorm(LEAST_MS, max(float(longest), 10 * LEAST_MS))
    shown = np.where(np.isfinite(field), np.maximum(field, LEAST_MS), np.nan)
    image = axes.imshow(shown, aspect="auto", cmap="viridis_r", norm=norm)
    write_in_fields(axes, image, shown, {place: cost_text(group) for place, group in cells.items()}, 8)
    for (up, across), group in cells.items():
        if marks(group):
            axes.add_patch(Rectangle((across - 0.5, up - 0.5), 1, 1, fill=False, edgecolor=WORSE, linewidth=2.5))
    axes.set_xticks(range(len(policies)), [fill(name, 14) for name in short_names(policies)], fontsize=9)
    axes.set_yticks(range(len(faults)), [fill(name, LABEL) for name in faults], fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel(LEGEND, fontsize=8, color="0.3", loc="left")
    colour_bar(figure, image, axes, "added latency of the request that lost most, p99, ms (1 and less: brightest)")
    finished(figure, title, path, kind)
