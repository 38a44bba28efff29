"""What a scenario with a draft of another vocabulary is refused with, and that its remedies are real."""

from __future__ import annotations

import pytest

from hilsim.errors import InputError
from tests.scenes import shipped


def test_a_draft_of_another_vocabulary_is_refused_with_what_can_draft_instead() -> None:
    with pytest.raises(InputError) as refused:
        shipped("orin_8295", "draft.model=qwen3-0.6b")
    (fault,) = [fault for fault in refused.value.faults if fault.place == "draft.model"]
    assert "vocabulary qwen" in fault.found
    named = fault.remedy.split("(")[1].split(")")[0].split(", ")
    assert 1 <= len(named) <= 3
    for name in named:
        assert shipped("orin_8295", f"draft.model={name}").draft is not None
    assert "draft head" in fault.remedy
    assert "policy prompt_lookup" in fault.remedy


def test_a_target_without_a_smaller_sibling_is_offered_heads_and_lookups_alone() -> None:
    with pytest.raises(InputError) as refused:
        shipped("orin_8295", "target.model=draft-68m-llama3", "draft.model=qwen3-0.6b")
    (fault,) = [fault for fault in refused.value.faults if fault.place == "draft.model"]
    assert fault.remedy.startswith("Choose a draft head")
