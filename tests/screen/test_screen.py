"""Screening against the event simulation: thousands of random configurations, equal to the nanosecond."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilsim.cost.between import Between
from hilsim.describe.acceptance import AcceptedOverDrafted, Conditional, Marginal, MarkovAcceptance
from hilsim.describe.decoding import FullRows, RatioTest, Sampling, Scalar, TokenIds, TopKRows
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Adaptive, Pearl, Policy, PromptLookup, Suffix, Sync, TargetOnly
from hilsim.describe.scenario import Lengths, Synthetic
from hilsim.describe.setup import Setup
from hilsim.runs.run import Sources
from hilsim.screen import costs as prices
from hilsim.screen.costs import Tables
from hilsim.screen.screening import Screened, Unscreenable, refusal, screened
from hilsim.screen.tokens import recorded_answers, synthetic_answers, with_lookup
from hilsim.sources.luck import luck_of
from hilsim.sources.synthetic import SyntheticSource
from tests.scenes import between_passes
from tests.screened import differences

ROOT = Path(__file__).resolve().parents[2]

lengths = st.integers(1, 9)
policies = st.one_of(
    st.just(TargetOnly(name="target_only")),
    st.builds(Sync, name=st.just("sync"), draft_tokens=lengths),
    st.builds(
        Adaptive, name=st.just("adaptive"), rule=st.just("schedule"), draft_tokens=lengths, most=st.integers(9, 20)
    ),
    st.builds(Pearl, name=st.just("pearl"), draft_tokens=lengths),
)
acceptances = st.one_of(
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=1, max_size=5).map(lambda chances: Conditional(conditional=tuple(chances))),
    st.lists(st.floats(0, 1), min_size=1, max_size=5).map(
        lambda shares: Marginal(marginal=tuple(sorted(shares)[::-1]))
    ),
    st.builds(AcceptedOverDrafted, accepted_over_drafted=st.floats(0, 1), drafted=st.integers(1, 20)),
    st.builds(MarkovAcceptance, **{name: st.floats(0, 1) for name in ("easy", "hard", "stay_easy", "stay_hard")}),
)
payloads = st.one_of(
    st.just((TokenIds(), "target", Sampling())),
    st.just((FullRows(), "target", Sampling(temperature=0.7))),
    st.just((Scalar(), "target", Sampling(temperature=0.7))),
    st.just((Scalar(down="support"), "target", Sampling(temperature=0.7, top_k=40))),
    st.just((TopKRows(k=64), "draft", Sampling(temperature=0.7, top_k=40))),
)
# Figures of links over six orders of magnitude, and none at all, where instants coincide.
times = st.sampled_from([0.0, 0.1, 1.0, 25.0, 400.0, 6000.0])
rates = st.sampled_from([1e15, 3.3e9, 1.1e8, 1e6])
# A fixed-width NPU with a GPU that minds its cache; two GPUs; one chip; and tables of round numbers.
BASES = ("orin_8295_greedy", "swapped", "one_chip", "paper_table")


def base(name: str):
    """A scenario with synthetic logits in place of live ones."""
    given = [] if name == "paper_table" else ["logits={source: synthetic, acceptance: 0.5}"]
    given += (
        [] if name == "paper_table" else ["workload={requests: 1, prompt_tokens: 9, output_tokens: 9}", "networks=[]"]
    )
    return load_setup(ROOT / f"scenarios/{name}.yaml", given)


SETUPS = {name: base(name) for name in BASES}


@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(BASES),
    policy=policies,
    acceptance=acceptances,
    rules=payloads,
    link=st.tuples(times, times, rates),
    talk=st.builds(
        Lengths,
        requests=st.integers(1, 4),
        prompt_tokens=st.integers(1, 60),
        output_tokens=st.integers(1, 40),
        clause_tokens=st.integers(1, 12),
        pause_ms=st.sampled_from([0.0, 1.0, 500.0]),
    ),
    elsewhere=st.booleans(),
    between=st.none()
    | st.tuples(st.sampled_from([0, 0.3, 86]), st.sampled_from([0, 17]), st.sampled_from([0, 1, 400])),
)
def test_screening_is_the_event_simulation(name, policy, acceptance, rules, link, talk, elsewhere, between) -> None:
    setup = SETUPS[name]
    payload, verify_at, sampling = rules
    overhead, propagation, rate = link
    logits = Synthetic(source="synthetic", acceptance=acceptance)
    accept = RatioTest() if sampling.temperature else setup.scenario.accept
    scenario = setup.scenario.model_copy(
        update={
            "policy": policy, "logits": logits, "workload": talk, "payload": payload, "verify_at": verify_at,
            "sampling": sampling, "accept": accept, "seed": 1,
        }
    )  # fmt: skip
    figures = {"message_overhead": (overhead, "us"), "propagation": (propagation, "us"), "rate": (rate, "B/s")}
    changed = {
        key: getattr(setup.link, key).model_copy(update={"value": value, "unit": unit, "range": None})
        for key, (value, unit) in figures.items()
    }
    assert setup.link is not None
    assert setup.draft is not None
    application = setup.draft.chip.name if elsewhere else setup.target.chip.name
    setup = replace(
        setup,
        scenario=scenario,
        link=setup.link.model_copy(update={**changed, "jitter": None}),
        application=application,
    )
    setup = setup if between is None else between_passes(setup, *between)
    words = synthetic_answers(setup)
    try:
        assert differences(setup, words, SyntheticSource(luck_of(setup), talk), Tables()) == []
    except Unscreenable:
        assert refusal(setup, policy)


def lookup_of(setup: Setup) -> PromptLookup | Suffix | None:
    policy = setup.scenario.policy
    return policy if isinstance(policy, PromptLookup | Suffix) else None


POLICIES = (
    "{name: target_only}", "{name: sync, draft_tokens: 5}", "{name: adaptive, rule: schedule, most: 12}",
    "{name: adaptive, rule: confidence, most: 12}", "{name: adaptive, rule: entropy, most: 12}",
    "{name: adaptive, rule: expected, most: 12}",
    "{name: prompt_lookup, draft_tokens: 4}", "{name: suffix, draft_tokens: 6, factor: 2}",
    "{name: pearl, draft_tokens: 4}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("greedy", ()),
        ("ratio-top_k-64", ("accept=ratio", "payload={scheme: top_k, k: 64}")),
        ("gumbel", ("accept=gumbel", "payload=token_ids")),
    ],
)
def test_recorded_answers_are_screened_as_events_tell_them(file: str, rules: tuple[str, ...]) -> None:
    sampling = ["sampling={temperature: 0.7, top_k: 40, top_p: 0.95}"] if rules else []
    given = [
        f"logits={{source: transcript, file: transcripts/shift-draft-0.8m-{file}.npz}}",
        "workload.count=6",
        *sampling,
    ]
    words, tables = None, Tables()
    for policy in POLICIES:
        if rules and ("prompt_lookup" in policy or "suffix" in policy):
            continue
        for link in ("pcie-gen3-x4", "1000base-t1"):
            setup = load_setup(
                ROOT / "scenarios/orin_8295_greedy.yaml", [*given, *rules, f"policy={policy}", f"link={link}"]
            )
            source = Sources(setup).fresh()
            words = words or recorded_answers(setup, source)
            mine = with_lookup(setup, source, words, looked) if (looked := lookup_of(setup)) else words
            assert differences(setup, mine, source, tables) == [], (policy, link)
            slow = between_passes(replace(setup, networks=()), 86, 17, 100)
            assert differences(slow, mine, source, tables) == [], (policy, link, "between passes")


@pytest.mark.parametrize(
    "policy",
    ["{name: cascade, draft_tokens: 4}", "{name: tree, branches: [2, 1]}", "{name: ssd, forecasts: models/ssd}",
     "{name: lookahead, window: 2, ngram: 3, guesses: 2}", "{name: async}"],
)  # fmt: skip
def test_what_needs_events_is_refused_with_a_reason(policy: str) -> None:
    setup = load_setup(ROOT / "scenarios/tree.yaml", [f"policy={policy}"])
    assert (
        refusal(setup, setup.scenario.policy)
        == f"policy {setup.scenario.policy.name}, which needs the event simulation"
    )


def test_policies_of_one_setup_share_its_tables_and_another_setup_has_its_own() -> None:
    setup, tables = SETUPS["orin_8295_greedy"], Tables()
    words = synthetic_answers(setup)

    def ran(policy: Policy, place: Setup = setup, known: Tables = tables) -> Screened:
        return screened(place, policy, words, known)

    few, many = ran(Sync(name="sync", draft_tokens=2)), ran(Sync(name="sync", draft_tokens=5))
    assert few.costs is many.costs
    assert ran(TargetOnly(name="target_only")).costs is not few.costs  # its draft takes no part
    wide = ran(Sync(name="sync", draft_tokens=prices.ROWS))
    assert len(wide.costs.target_step) > len(few.costs.target_step)
    slow = between_passes(setup, 86)
    other = ran(Sync(name="sync", draft_tokens=2), slow)
    assert other.costs is not few.costs
    fresh = ran(Sync(name="sync", draft_tokens=2), slow, Tables())
    assert (other.requests == fresh.requests).all()
    assert (other.requests != few.requests).any()


def test_a_wrong_cost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were a message a nanosecond longer than events have it, the comparison would say so."""
    setup = SETUPS["orin_8295_greedy"]
    talk = Lengths(requests=2, prompt_tokens=20, output_tokens=12, pause_ms=1.0)
    scenario = setup.scenario.model_copy(update={"workload": talk, "policy": Sync(name="sync", draft_tokens=3)})
    setup = replace(setup, scenario=scenario)
    source = SyntheticSource(luck_of(setup), talk)
    assert differences(setup, synthetic_answers(setup), source, Tables()) == []
    right = prices.wires_ns
    with monkeypatch.context() as changed:
        changed.setattr(prices, "wires_ns", lambda link, sizes: right(link, sizes) + 1)
        assert differences(setup, synthetic_answers(setup), source, Tables())
    setup = between_passes(setup, 86)
    assert differences(setup, synthetic_answers(setup), source, Tables()) == []
    monkeypatch.setattr(prices, "between_steps", lambda timer: Between(86 * 10**6 + 1))
    assert differences(setup, synthetic_answers(setup), source, Tables())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["workload.talkers=2"], "2 concurrent sessions"),
        (["sharing={}", "speech={}"], "speech, sharing: what runs at once shares units, memory and heat"),
        (["policy={name: sync, draft_tokens: 3, fallback: {}}"], "fallback"),
        (["policy={name: target_only}", "application=drive-orin-x", "link=shaky.yaml"], "jitter"),
        (["policy={name: async}"], "policy async, which needs the event simulation"),
        (["policy={name: pipelined, draft_tokens: 3}"], "policy pipelined, which needs the event simulation"),
        (["policy={name: adaptive, rule: confidence}"], "confidence, which synthetic logits do not have"),
        (["link=cellular", "target.chip=cloud-l4", "target.unit=gpu", "target.precision=fp16"], ""),
    ],
)
def test_what_cannot_be_screened_says_why(changes: list[str], why: str) -> None:
    given = ["logits={source: synthetic, acceptance: 0.5}", "networks=[]"]
    lengths = "workload={requests: 2, prompt_tokens: 9, output_tokens: 9}"
    shaky = "link=shaky.yaml" in changes
    setup = load_setup(
        ROOT / "scenarios/orin_8295_greedy.yaml",
        [*given, lengths, *(one for one in changes if one != "link=shaky.yaml")],
    )
    if shaky:
        assert setup.link is not None
        setup = replace(setup, link=setup.link.model_copy(update={"jitter": setup.link.message_overhead}))
    found = refusal(setup, setup.scenario.policy)
    assert why in found if why else not found


def test_without_numba_the_numbers_are_the_same() -> None:
    """The loops as plain Python, in a process of their own, against the compiled ones here."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from hilsim.screen.compiled import FAST; assert not FAST\n"
        "from tests.screen.test_screen import plain_and_compiled; print(plain_and_compiled())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == plain_and_compiled()


def plain_and_compiled() -> str:
    """A digest of a few runs."""
    found = hashlib.sha256()
    talk = Lengths(requests=3, prompt_tokens=20, output_tokens=25, pause_ms=1.0)
    for policy in (Sync(name="sync", draft_tokens=3), Pearl(name="pearl", draft_tokens=3)):
        scenario = SETUPS["orin_8295_greedy"].scenario.model_copy(update={"workload": talk, "policy": policy})
        setup = replace(SETUPS["orin_8295_greedy"], scenario=scenario)
        found.update(screened(setup, policy, synthetic_answers(setup), Tables()).requests.tobytes())
    return found.hexdigest()


def test_a_network_on_a_unit_that_changes_graphs_needs_the_event_simulation() -> None:
    """It changes them once a question, beside the model's own changes."""
    place = ["target.chip=sa8797p", "target.precision=w8a16", "logits={source: synthetic, acceptance: 0.5}"]
    lengths = "workload={requests: 1, prompt_tokens: 9, output_tokens: 9}"
    setup = load_setup(ROOT / "scenarios/orin_8295_greedy.yaml", [*place, lengths])
    assert "network intent on sa8797p.npu" in refusal(setup, setup.scenario.policy)
    assert refusal(replace(setup, networks=()), setup.scenario.policy) == ""
