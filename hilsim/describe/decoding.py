"""How tokens are chosen and checked: sampling, accept rules, what crosses the link for them, and what that guarantees.

A plain name is shorthand for a record without parameters: `payload: full_rows` is `payload: {kind: full_rows}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from hilsim.describe.figure import Record
from hilsim.describe.tagged import Tagged, shorthand
from hilsim.errors import Misfit

RowFormat = Literal["fp32", "fp16", "counts8"]
FloatFormat = Literal["fp32", "fp16"]
VerifyAt = Literal["target", "draft"]
Entries = Annotated[int, Field(ge=1, le=10**7)]
LEAST_TEMPERATURE = 1e-5  # below it sampling is greedy but for ties, and division by it may overflow


class Sampling(Record):
    """How a row of logits becomes a distribution; a cut one is renormalised.

    A repetition penalty comes before anything else, and is for all tokens that the conversation already has (as in
    Hugging Face).
    """

    temperature: float = Field(default=0.0, ge=0, le=10)
    """What logits are divided by; 0 is greedy."""
    top_k: int | None = Field(default=None, ge=1, le=10**7)
    """Likeliest tokens that are kept; all where not given."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Share of the distribution that the likeliest tokens kept make up; all of it where not given."""
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    """Divides positive logits of tokens that occurred before, multiplies negative ones; none where not given."""

    @field_validator("temperature")
    @classmethod
    def _no_nearly_zero(cls, value: float) -> float:
        if 0 < value < LEAST_TEMPERATURE:
            raise Misfit(f"a temperature of {value:g}", f"0 (greedy), or {LEAST_TEMPERATURE:g} to 10")
        return value

    @model_validator(mode="after")
    def _cuts_need_temperature(self) -> Sampling:
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise Misfit("top_k or top_p at temperature 0, where they change nothing", "drop them or raise temperature")
        return self


class TokenIds(Tagged):
    """The drafted tokens and nothing else."""

    scheme: Literal["token_ids"] = Field(default="token_ids", alias="kind")


class OneHot(Tagged):
    """The draft's likeliest token, so its distribution is known from the token alone."""

    scheme: Literal["one_hot"] = Field(default="one_hot", alias="kind")


class FullRows(Tagged):
    """The draft's distribution with every drafted token; the draft samples from it as it is quantised."""

    scheme: Literal["full_rows"] = Field(default="full_rows", alias="kind")
    format: RowFormat = "fp16"
    """Number format in which the distribution crosses the link."""


class TopKRows(Tagged):
    """The draft's `k` likeliest tokens: cut and rounded first, then sampled from (QSV, arXiv 2507.00605)."""

    scheme: Literal["top_k"] = Field(default="top_k", alias="kind")
    k: Entries
    """Tokens, and their probabilities, that cross the link with every drafted one."""
    format: RowFormat = "fp16"
    """Number format in which probabilities cross the link."""


class Scalar(Tagged):
    """The drafted token's probability alone; on a rejection the target's distribution comes down and the
    draft's chip resamples.

    `down: support` sends only the tokens that have mass, which sampling.top_k makes few. Both chips must use the
    same numbers for the target's distribution, so it is rounded to `format` before anything is decided.
    """

    scheme: Literal["scalar"] = Field(default="scalar", alias="kind")
    format: FloatFormat = "fp16"
    """Number format of the probability, and of the distribution that comes down."""
    down: Literal["row", "support"] = "row"
    """What comes down on a rejection: the whole row, or only the tokens that have mass."""


class TopKAfter(Tagged):
    """The draft samples from its whole distribution and sends `k` entries, renormalised or not. Lossy under `ratio`."""

    scheme: Literal["top_k_after"] = Field(default="top_k_after", alias="kind")
    k: Entries
    """Tokens, and their probabilities, that cross the link with every drafted one."""
    renormalised: bool = True
    """Whether the probabilities that are sent add up to 1 again."""


class Greedy(Tagged):
    """The target's most likely token; a drafted token is accepted if it is that one."""

    rule: Literal["greedy"] = Field(default="greedy", alias="kind")


class RatioTest(Tagged):
    """A drafted token is accepted by the ratio of both its probabilities (Leviathan et al., arXiv 2211.17192)."""

    rule: Literal["ratio"] = Field(default="ratio", alias="kind")


class GumbelMatch(Tagged):
    """Both chips add the same noise to log probabilities and take the largest (Daliri et al., arXiv 2408.07978)."""

    rule: Literal["gumbel"] = Field(default="gumbel", alias="kind")


class SampleMatch(Tagged):
    """The target draws its own token; a drafted token is accepted if it is that one."""

    rule: Literal["sample_match"] = Field(default="sample_match", alias="kind")


class BlockVerification(Tagged):
    """Tokens are accepted jointly over a block (Sun et al., arXiv 2403.10444)."""

    rule: Literal["block"] = Field(default="block", alias="kind")


class Lenient(Tagged):
    """`ratio` against `lenience` times the draft's distribution: accepts more, no token above its share / lenience."""

    rule: Literal["lenient"] = Field(default="lenient", alias="kind")
    lenience: float = Field(ge=0.001, le=1)
    """Part of the draft's distribution that is tested against: the smaller, the more is accepted."""


class Typical(Tagged):
    """Medusa's rule: a drafted token is accepted where p(x) > min(epsilon, delta exp(-entropy of p))."""

    rule: Literal["typical"] = Field(default="typical", alias="kind")
    epsilon: float = Field(default=0.09, gt=0, le=1)
    """Probability above which a token is accepted whatever the entropy."""
    delta: float = Field(default=0.3, gt=0, le=1)
    """Factor of exp(-entropy), the other bound of acceptance."""


Payloads = TokenIds | OneHot | FullRows | TopKRows | Scalar | TopKAfter
Payload = Annotated[Payloads, Field(discriminator="scheme"), shorthand(Payloads)]
Rules = Greedy | RatioTest | GumbelMatch | SampleMatch | BlockVerification | Lenient | Typical
Accept = Annotated[Rules, Field(discriminator="rule"), shorthand(Rules)]

MATCHING = ("greedy", "gumbel", "sample_match", "typical")  # rules that never look at the draft's distribution


class Guarantee(NamedTuple):
    """What holds of a run's text: `text` (token-exact) - the target's own, token by token; `law` (distribution-exact) -
    another text of the same distribution; `none` (lossy) - another distribution.
    """

    level: Literal["text", "law", "none"]
    why: str


WHY = {
    "greedy": "every token is the target's most likely one",
    "ratio": "the distribution tested against is the one that was drawn from, and every draw is keyed by its position, "
    "the target's alone by this draft's distribution as well: another draft brings another text of the same "
    "distribution",
    "gumbel": "every token is the target's, by noise that only the position decides",
    "sample_match": "every token is the target's own draw, by a uniform that only the position decides",
}


def guarantee_of(
    accept: Accept, payload: Payload, sampling: Sampling, verify_at: VerifyAt, *, head: bool = False
) -> Guarantee:
    """What a combination without faults guarantees against the target alone; `head`: a draft head proposes.

    What a head proposes depends on where the verified text ends, so a rule that tests against the draft's distribution
    makes another text wherever rounds end elsewhere.
    """
    if accept.rule == "lenient" and accept.lenience < 1:
        return Guarantee("none", f"lenience {accept.lenience:g} accepts more than the target's distribution allows")
    if accept.rule == "typical":
        return Guarantee("none", "typical acceptance accepts plausible drafts more often than the target draws them")
    if payload.scheme == "top_k_after" and accept.rule not in MATCHING:
        return Guarantee(
            "none", f"the draft draws from its whole distribution, the target tests against {payload.k} entries of it"
        )
    rounded = payload.scheme == "scalar" or verify_at == "draft"
    quantised = ""
    if rounded and hasattr(payload, "format"):
        quantised = f"; the target's distribution is quantised to {payload.format}"
    if accept.rule == "block":
        why = "acceptance depends on the block, so the text is another one of the same distribution"
        return Guarantee("law", why + quantised)
    if head and accept.rule not in MATCHING:
        why = "a draft head's tokens depend on where rounds end, so the text is another one of the same distribution"
        return Guarantee("law", why + quantised)
    return Guarantee("text", WHY.get(accept.rule, WHY["ratio"]) + quantised)


def rule_faults(accept: Accept, sampling: Sampling) -> Iterator[Misfit]:
    """Whether the accept rule goes with the temperature."""
    cold, greedy = sampling.temperature == 0, accept.rule == "greedy"
    if cold != greedy:
        yield (
            Misfit(
                f"accept {accept.rule} at temperature {sampling.temperature:g}",
                "greedy at temperature 0, ratio, gumbel, sample_match or block above it",
            )
        )


def faults(accept: Accept, payload: Payload, sampling: Sampling, verify_at: VerifyAt) -> Iterator[Misfit]:
    """Combinations that make no sense."""
    yield from rule_faults(accept, sampling)
    if sampling.temperature == 0 and accept.rule != "greedy":
        return  # one fault is enough; the rest depends on which of the two is meant
    rule, scheme = accept.rule, payload.scheme
    if verify_at == "draft":
        yield from faults_at_the_draft(accept, payload, sampling)
        return
    if rule == "block" and scheme not in ("full_rows", "top_k"):
        yield Misfit(f"payload {scheme} with the block rule, which needs the draft's rows", "full_rows or top_k")
    elif rule not in MATCHING and scheme == "token_ids":
        yield Misfit(
            f"payload token_ids with the {rule} rule, which needs distributions", "full_rows, top_k, scalar or one_hot"
        )
    if rule in MATCHING and scheme in ("scalar", "top_k_after"):
        yield Misfit(f"payload {scheme} with the {rule} rule, which needs no distribution", "token_ids")
    if payload.scheme == "scalar" and payload.down == "support" and sampling.top_k is None:
        yield Misfit("payload scalar with down support but no sampling.top_k to make it small", "down row, or a top_k")


def lookup_faults(policy: str, accept: Accept, payload: Payload, verify_at: VerifyAt) -> Iterator[Misfit]:
    """Tokens that are looked up were drawn from no distribution and cross no link, so nothing is tested elsewhere."""
    if verify_at == "draft":
        yield Misfit(f"policy {policy} with verify_at draft, where no draft of its tokens is", "target")
    if accept.rule in ("block", "lenient", "typical") or payload.scheme == "top_k_after":
        found = f"policy {policy} with accept {accept.rule} and payload {payload.scheme}"
        yield Misfit(
            f"{found}, which test against a distribution that its tokens were not drawn from",
            "sample_match with token_ids",
        )


def tree_faults(policy: str, accept: Accept, payload: Payload, verify_at: VerifyAt) -> Iterator[Misfit]:
    """What a token tree cannot be verified by: rules that test one draft a position, and payloads other than ids."""
    if accept.rule not in ("greedy", "gumbel", "sample_match"):
        yield Misfit(
            f"policy {policy} with the {accept.rule} rule, which tests one draft a position", "gumbel or sample_match"
        )
    if payload.scheme != "token_ids" or verify_at == "draft":
        yield Misfit(f"policy {policy} with payload {payload.scheme} and verify_at {verify_at}", "token_ids and target")


def faults_at_the_draft(accept: Accept, payload: Payload, sampling: Sampling) -> Iterator[Misfit]:
    """What is wrong where the target's rows come down and the draft's chip verifies."""
    if accept.rule in ("greedy", "gumbel", "sample_match"):
        yield Misfit(f"verify_at draft with the {accept.rule} rule, which needs no row of the target", "target")
        return
    if payload.scheme not in ("full_rows", "top_k"):
        yield Misfit(
            f"verify_at draft with payload {payload.scheme}, which has no rows to send down", "full_rows or top_k"
        )
        return
    if payload.format == "counts8":
        yield Misfit(
            "verify_at draft with rows of counts8, which would coarsen the target's own distribution", "fp16 or fp32"
        )
    if payload.scheme == "top_k" and (sampling.top_k is None or sampling.top_k > payload.k):
        yield (
            Misfit(
                f"verify_at draft with {payload.k} entries of the target's distribution, which has more",
                f"full_rows, or sampling.top_k at most {payload.k}",
            )
        )
