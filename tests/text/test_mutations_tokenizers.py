"""Chat templates that would never end or take all memory: refused within limits."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from hilsim.errors import CheckpointError
from hilsim.text.tokenizer import load_tokenizer
from tests.text.test_prompts import TEMPLATES, TOKENIZERS, save

pytestmark = pytest.mark.slow  # templates that would never end


WITHOUT_END = {
    "a loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
    "a quiet loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a power": "{{ 2 ** 2000000000 }}",
    "a power of constants": "{% if 7 ** (7 ** 12) %}x{% endif %}",
    "doubled": "{% set x = namespace(t='ab') %}{% for a in range(40) %}{% set x.t = x.t ~ x.t %}{% endfor %}{{ x.t }}",
    "doubled by the messages": "{% set x = namespace(t=messages[0].content) %}"
    "{% for a in range(60) %}{% set x.t = x.t + x.t %}{% endfor %}{{ x.t|length }}",
    "a long text": "{{ 'x' * 2000000000 }}",
    "a list": "{{ [0] * 2000000000 }}",
    "a width": "{{ '%2000000000d' % 1 }}",
    "a place": "{{ 'x'.ljust(2000000000) }}",
    "a filter": "{{ 'x' | center(2000000000) }}",
    "a macro that calls itself": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "two macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "words": "{{ lipsum(n=1000000) }}",
    "much": "{% for a in range(99999) %}{{ 'x' * 100 }}{% endfor %}",
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("template", WITHOUT_END.values(), ids=WITHOUT_END)
def test_templates_that_would_never_end_or_take_all_memory_are_refused(template: str, tmp_path: Path) -> None:
    save(tmp_path, TOKENIZERS["bytes"](), template + TEMPLATES["chatml"])
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match=r"chat_template: found one that cannot be rendered \(.+\)") as caught:
        load_tokenizer(tmp_path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert len(str(caught.value)) < 1000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert after.ru_maxrss - before.ru_maxrss < 2**18  # KiB


def test_after_a_template_that_died_the_next_is_rendered(tmp_path: Path) -> None:
    save(tmp_path / "bad", TOKENIZERS["bytes"](), WITHOUT_END["a power"])
    with pytest.raises(CheckpointError, match=r"of CPU time|a crash"):
        load_tokenizer(tmp_path / "bad")
    save(tmp_path / "good", TOKENIZERS["bytes"](), TEMPLATES["answers cut later"])
    assert load_tokenizer(tmp_path / "good").first_turn("Hello.")
