"""Keys, kinds and values of other programs, and what is meant by them here.

vLLM, llama.cpp, Genie, Ollama and Hugging Face name the same things differently, and some that do not exist here. A
table says which is which, so that no look-alike is suggested: `frequency_penalty` is no `repetition_penalty`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hilsim.describe.names import key, split_name


def spread(meanings: Mapping[str, str]) -> Mapping[str, str]:
    """A table from what is meant here to the names that others have for it, as one from each name to what it means."""
    return {name: ours for ours, names in meanings.items() for name in names.split()}


# What is meant here, and the key's words run together as others write them. A dotted path is a key of ours; anything
# else is a sentence.
SCENARIO = spread({
    # how tokens are chosen
    "sampling.temperature": "temp",
    "sampling.top_k": "topk",
    "sampling.top_p": "topp",
    "sampling.repetition_penalty": "repeatpenalty repetitionpenalty penaltyrepeat",
    "Whether tokens are drawn follows from sampling.temperature: 0 is greedy.": "dosample",
    "sampling.temperature: 0 with accept: greedy is greedy.": "greedy",
    "A penalty by how often a token was used is not supported; leave it out, as 0 means none.": "frequencypenalty",
    "A penalty for tokens that were used at all is not supported; leave it out, as 0 means none.": "presencepenalty",
    "A cut by a share of the largest probability is not supported; top_k and top_p are.": "minp",
    "Sampling by typicality is not supported (accept: typical is a rule for drafts); top_k and top_p are.": "typicalp",
    "This cut is not supported; top_k and top_p are.": "topa tfsz",
    "Mirostat is not supported; sampling.temperature, top_k and top_p are.": "mirostat",
    "Logits are taken as the models give them; a bias is not supported.": "logitbias",
    "Refusing repeated n-grams is not supported.": "norepeatngramsize",
    "Beams are not supported; one answer is decoded at a time.": "lengthpenalty numbeams",
    "One answer a request is decoded; best_of is not supported.": "bestof",
    "One answer a request is decoded.": "n",
    "seed": "randomseed",
    # lengths
    "workload.max_new_tokens":
        "maxtokens maxnewtokens npredict numpredict maxnumtokens maxcompletiontokens maxoutputtokens",
    "context_tokens": "nctx numctx ctxsize contextsize contextlength maxmodellen maxseqlen",
    "context_tokens is the whole conversation's length, workload.max_new_tokens an answer's.": "maxlength",
    "An answer ends at the stand-in's end token, or at workload.max_new_tokens.": "stop ignoreeos",
    # drafting
    "policy.draft_tokens":
        "numspeculativetokens speculativenumsteps speculativetokens numassistanttokens numdrafttokens ndraft "
        "draftn draftlen draftlength gamma",
    "policy.draft_tokens is how many tokens are drafted; the block `draft` at the top is the model": "draft",
    "policy.draft_tokens, or policy.most with policy.kind: adaptive.": "draftmax",
    "Shorter drafts are not thrown away here; leave it out.": "draftmin",
    "policy.threshold with policy.kind: adaptive and policy.rule: confidence.":
        "draftpmin assistantconfidencethreshold",
    "policy.draft_tokens with policy.kind: prompt_lookup.": "promptlookupnumtokens",
    "policy.longest_match with policy.kind: prompt_lookup.": "promptlookupmax maxmatchingngramsize",
    "policy.longest_match with policy.kind: suffix.": "suffixdecodingmaxtreedepth",
    "policy.factor with policy.kind: suffix.": "suffixdecodingmaxspecfactor",
    "policy.least_share with policy.kind: suffix.": "suffixdecodingmintokenprob",
    "policy.guesses with policy.kind: lookahead.": "gcap guesssetsize",
    "policy.top with policy.kind: tree and policy.nodes.": "speculativeeagletopk eagletopk",
    "policy.forecast_tokens with policy.kind: ssd.": "forecasttokencount",
    "draft.model is the draft's deployed shape, draft.stand_in the network that makes its tokens.":
        "speculativemodel draftmodel assistantmodel modeldraft",
    # placement
    "target.precision and draft.precision": "quantization quant loadin4bit loadin8bit",
    "target.kv_cache and draft.kv_cache": "kvcachedtype cachetypek cachetypev",
    "A model runs on one unit whole: target.unit and draft.unit.": "ngpulayers ngl",
    "target.chip with target.unit": "device",
    "units.UNIT.backend": "backend",
    "A model runs on one unit whole; splitting it over several is not supported.":
        "tensorparallelsize pipelineparallelsize",
    "What of a chip's memory may be used follows from memory and reserve in the chip's file.": "gpumemoryutilization",
    "workload.talkers is the number of concurrent requests.": "batchsize maxnumseqs",
    "workload.talkers": "concurrency users",
    "A link's rate is in its file in chips/links; link names one.": "bandwidth",
})  # fmt: skip
MODEL = spread({  # of a Hugging Face config.json
    "architecture.hidden": "hiddensize dmodel nembd",
    "architecture.intermediate": "intermediatesize",
    "architecture.layers": "numhiddenlayers nlayers nlayer",
    "architecture.heads": "numattentionheads nheads nhead",
    "architecture.kv_heads": "numkeyvalueheads nkvheads",
    "architecture.head_dim": "headsize",
    "vocabulary.entries": "vocabsize",
    "architecture.context": "maxpositionembeddings contextlength",
    "architecture.tied_head": "tiewordembeddings",
})  # fmt: skip
STUDY = spread({
    "axes": "grid sweep parameters params searchspace",
    "set": "overrides fixed",
    "scenario": "base",
    "`from` and `to` of an axis": "min max",
    "`steps` of an axis": "num",
    "`key` of an axis": "path",
    "search.trials": "ntrials",
    "`goal` of an objective: min or max": "direction",
})  # fmt: skip
TABLES = {"Scenario": SCENARIO, "Model": MODEL, "Study": STUDY}
# Kinds by the names that papers and programs give them, under the earlier words for `kind` of their blocks (tagged.py).
KINDS = {
    "name": spread({
        "target_only": "none vanilla autoregressive baseline ar",
        "sync": "speculative chain blocking lockstep synchronous",
        "async": "asynchronous amusd",
        "pipelined": "picospec pipeline",
        "adaptive": "dynamic disco adaedl",
        "pearl": "parallel",
        "prompt_lookup": "ngram pld lookup",
        "suffix": "suffixdecoding",
        "tree": "specinfer opttree",
        "lookahead": "lade jacobi",
        "ssd": "ssdq1 selfspeculative",
        "own": "custom",
        "argmax": "amax",
        "logits": "raw",
        "top_k_sampling": "topksample",
    }),
    "rule": spread({
        "greedy": "exact argmax",
        "ratio":
            "rejection rejectionsampling standard rejectionsampler leviathan speculativesampling modifiedrejection",
        "typical": "typicalacceptance typicalacceptancesampler medusa",
        "block": "blockverification",
        "gumbel": "gumbelmax coupled",
        "lenient": "lossy relaxed",
        "sample_match": "samplematching match",
    }),
    "kind": spread({
        "link_drop": "drop disconnect linkdown outage",
        "link_delay": "delay latency",
        "loss": "packetloss burst burstloss",
        "bit_errors": "biterror ber bitflip corruption",
        "partial_outage": "degraded bandwidth throttle",
        "duplicate": "duplicated",
        "late": "reorder reordered overtaken",
        "reset": "restart reboot crash",
        "hang": "freeze stall stuck",
        "slow": "slowdown",
        "memory": "memorypressure oom evict",
        "lost": "gone dead",
        "clock_jump": "clock timejump",
        "wrong_row": "silentcorruption sdc wronglogits",
    }),
    "scheme": spread({
        "token_ids": "ids tokens token",
        "full_rows": "full logits probs probabilities rows dense distribution",
        "top_k": "qsv sparse",
        "scalar": "prob probability",
    }),
    "source": spread({
        "live": "model models torch pytorch",
        "transcript": "recorded recording replay",
        "synthetic": "random bernoulli",
    }),
}  # fmt: skip
# Values by the end of their path: numbers that other programs write, and what is meant.
VALUES: Mapping[tuple[str, str], tuple[Sequence[object], str]] = {
    ("sampling", "top_k"): ((0, -1), "0 (llama.cpp) and -1 (vLLM) mean that nothing is cut: leave top_k out."),
    ("sampling", "top_p"): ((0, 0.0, -1, -1.0), "1 means that nothing is cut, as when top_p is left out."),
    ("sampling", "repetition_penalty"): ((0, 0.0), "1 means no penalty, as when it is left out."),
    ("", "seed"): ((-1,), "-1 means any seed in other programs; runs here repeat, so give a number."),
    ("workload", "max_new_tokens"): ((-1, -2, 0), "An answer without a limit is not supported; give context_tokens."),
    ("", "context_tokens"): ((0, -1), "0 means the model's own context in llama.cpp; give the number of tokens."),
    ("policy", "draft_tokens"): ((0,), "For no drafts use policy.kind: target_only, without draft and link."),
}


def meant_by(wrong: str, record: str, place: str, exists: Sequence[str]) -> str:
    """What a foreign key of a described thing is here, as a sentence; "" where it is in no table.

    `place` is the dotted block in which it was found, `exists` the keys that this block does have.
    """
    ours = TABLES.get(record, {}).get(key(split_name(wrong)), "")
    if not ours or ours in exists:
        return ""
    if " " in ours:
        return ours if ours[0].isupper() else f"Here it is {ours.rstrip('.')}."
    block, _, name = ours.rpartition(".")
    return f"Here it is called {name}." if block == place and name in exists else f"Here it is {ours}."


def kind_meant(discriminator: str, wrong: str, tags: Sequence[str]) -> str | None:
    """The kind that a foreign name or another spelling means, if these tags have it."""
    plain = key(split_name(wrong))
    ours = next((tag for tag in tags if key(split_name(tag)) == plain), KINDS.get(discriminator, {}).get(plain))
    return ours if ours in tags else None


# Draft heads by the names of their papers, which other programs give to the whole way of speculating.
HEADS = {"eagle": "eagle", "eagle2": "eagle", "eagle3": "eagle3", "medusa": "medusa", "mtp": "mtp"}


def head_meant(wrong: str, tags: Sequence[str]) -> str:
    """Where a policy is named by a draft head: how heads are given, as a sentence; or ""."""
    head = HEADS.get(key(split_name(wrong)), "") if "sync" in tags else ""
    return head and f"A head takes the place of the draft model: draft={{head_kind: {head}}} with policy sync or tree."


def value_meant(path: Sequence[str | int], value: object) -> str:
    """What a number of another program means at a place, as a sentence; or ""."""
    names = [str(part) for part in path]
    place = (names[-2] if len(names) > 1 else "", names[-1]) if names else ("", "")
    listed, sentence = VALUES.get(place, ((), ""))
    return sentence if type(value) in (int, float) and value in listed else ""


# What other programs call number formats: the width of the weights is all that such a name tells.
FORMATS = {
    4: r"(u?int|w|i?q|nf)4(?!\d).*|4_?bits?|awq|gptq",
    8: r"(u?int|w|q|fp)8(?!\d).*|8_?bits?",
    16: r"(bf|f|b?float)16|half",
}


def precision_remedy(value: str, good: Sequence[str]) -> str:
    """The precisions with the weights that another program's name stands for, or all there are."""
    plain = value.lower().replace("-", "_")
    bits = next((bits for bits, names in FORMATS.items() if re.fullmatch(names, plain)), None)
    same = [name for name in good if re.fullmatch(rf"w{bits}(a\d+)?|fp{bits}", name)]
    if same:
        return f"With {bits}-bit weights there is {' and '.join(same)}: the number after `a` is the activations' bits."
    return f"Use {' or '.join(good)}." if good else "Choose another unit."
