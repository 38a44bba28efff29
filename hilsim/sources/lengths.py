"""How long answers are, as far as that is known before a run."""

from __future__ import annotations

from pathlib import Path

from hilsim.describe.catalogue import located
from hilsim.describe.scenario import RecordedLogits
from hilsim.describe.setup import Setup


def usual_answer(setup: Setup) -> float | None:
    """Tokens of a recorded answer in the mean; None where none is recorded. Raises `InputError` where it is broken."""
    logits = setup.scenario.logits
    if not isinstance(logits, RecordedLogits):
        return None
    import numpy as np  # here, as a check of most scenarios needs neither

    from hilsim.sources.transcript import load

    ends = load(located(logits.file, Path(setup.file))).answer_end
    return float(np.mean(np.diff(ends, prepend=0))) if len(ends) else None
