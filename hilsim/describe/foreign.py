"""Keys, kinds and values of other programs, and what is meant by them here.

vLLM, llama.cpp, Genie, Ollama and Hugging Face name the same things differently, and some that do not exist here. A
table says which is which, so that no look-alike is suggested: `frequency_penalty` is no `repetition_penalty`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hilsim.describe.names import key, words

# By the key's words run together: what it is here. A dotted path is a key of ours; anything else is a sentence.
SCENARIO: Mapping[str, str] = {
    # how tokens are chosen
    "temp": "sampling.temperature",
    "topk": "sampling.top_k",
    "topp": "sampling.top_p",
    "repeatpenalty": "sampling.repetition_penalty",
    "repetitionpenalty": "sampling.repetition_penalty",
    "penaltyrepeat": "sampling.repetition_penalty",
    "dosample": "Whether tokens are drawn follows from sampling.temperature: 0 is greedy.",
    "greedy": "sampling.temperature: 0 with accept: greedy is greedy.",
    "frequencypenalty": "A penalty by how often a token was used is not supported; leave it out, as 0 means none.",
    "presencepenalty": "A penalty for tokens that were used at all is not supported; leave it out, as 0 means none.",
    "minp": "A cut by a share of the largest probability is not supported; top_k and top_p are.",
    "typicalp": "Sampling by typicality is not supported (accept: typical is a rule for drafts); top_k and top_p are.",
    "topa": "This cut is not supported; top_k and top_p are.",
    "tfsz": "This cut is not supported; top_k and top_p are.",
    "mirostat": "Mirostat is not supported; sampling.temperature, top_k and top_p are.",
    "logitbias": "Logits are taken as the models give them; a bias is not supported.",
    "norepeatngramsize": "Refusing repeated n-grams is not supported.",
    "lengthpenalty": "Beams are not supported; one answer is decoded at a time.",
    "numbeams": "Beams are not supported; one answer is decoded at a time.",
    "bestof": "One answer a request is decoded; best_of is not supported.",
    "n": "One answer a request is decoded.",
    "randomseed": "seed",
    # lengths
    "maxtokens": "workload.max_new_tokens",
    "maxnewtokens": "workload.max_new_tokens",
    "npredict": "workload.max_new_tokens",
    "numpredict": "workload.max_new_tokens",
    "maxnumtokens": "workload.max_new_tokens",
    "maxcompletiontokens": "workload.max_new_tokens",
    "maxoutputtokens": "workload.max_new_tokens",
    "nctx": "context_tokens",
    "numctx": "context_tokens",
    "ctxsize": "context_tokens",
    "contextsize": "context_tokens",
    "contextlength": "context_tokens",
    "maxmodellen": "context_tokens",
    "maxseqlen": "context_tokens",
    "maxlength": "context_tokens is the whole conversation's length, workload.max_new_tokens an answer's.",
    "stop": "An answer ends at the stand-in's end token, or at workload.max_new_tokens.",
    "ignoreeos": "An answer ends at the stand-in's end token, or at workload.max_new_tokens.",
    # drafting
    "numspeculativetokens": "policy.draft_tokens",
    "speculativenumsteps": "policy.draft_tokens",
    "speculativetokens": "policy.draft_tokens",
    "numassistanttokens": "policy.draft_tokens",
    "numdrafttokens": "policy.draft_tokens",
    "ndraft": "policy.draft_tokens",
    "draft": "policy.draft_tokens is how many tokens are drafted; the block `draft` at the top is the model",
    "draftmax": "policy.draft_tokens, or policy.most with policy.name: adaptive.",
    "draftn": "policy.draft_tokens",
    "draftlen": "policy.draft_tokens",
    "draftlength": "policy.draft_tokens",
    "gamma": "policy.draft_tokens",
    "draftmin": "Shorter drafts are not thrown away here; leave it out.",
    "draftpmin": "policy.threshold with policy.name: adaptive and policy.rule: confidence.",
    "assistantconfidencethreshold": "policy.threshold with policy.name: adaptive and policy.rule: confidence.",
    "promptlookupnumtokens": "policy.draft_tokens with policy.name: prompt_lookup.",
    "promptlookupmax": "policy.longest_match with policy.name: prompt_lookup.",
    "maxmatchingngramsize": "policy.longest_match with policy.name: prompt_lookup.",
    "speculativemodel": "draft.model is the draft's deployed shape, draft.stand_in the network that makes its tokens.",
    "draftmodel": "draft.model is the draft's deployed shape, draft.stand_in the network that makes its tokens.",
    "assistantmodel": "draft.model is the draft's deployed shape, draft.stand_in the network that makes its tokens.",
    "modeldraft": "draft.model is the draft's deployed shape, draft.stand_in the network that makes its tokens.",
    # placement
    "quantization": "target.precision and draft.precision",
    "quant": "target.precision and draft.precision",
    "loadin4bit": "target.precision and draft.precision",
    "loadin8bit": "target.precision and draft.precision",
    "kvcachedtype": "The cache's bits belong to a precision: kv_bits in the chip's file.",
    "cachetypek": "The cache's bits belong to a precision: kv_bits in the chip's file.",
    "cachetypev": "The cache's bits belong to a precision: kv_bits in the chip's file.",
    "ngpulayers": "A model runs on one unit whole: target.unit and draft.unit.",
    "ngl": "A model runs on one unit whole: target.unit and draft.unit.",
    "device": "target.chip with target.unit",
    "backend": "units.UNIT.backend",
    "tensorparallelsize": "A model runs on one unit whole; splitting it over several is not supported.",
    "pipelineparallelsize": "A model runs on one unit whole; splitting it over several is not supported.",
    "gpumemoryutilization": "What of a chip's memory may be used follows from memory and reserve in the chip's file.",
    "batchsize": "workload.talkers says how many requests there are at a time.",
    "maxnumseqs": "workload.talkers says how many requests there are at a time.",
    "concurrency": "workload.talkers",
    "users": "workload.talkers",
    "bandwidth": "A link's rate is in its file in chips/links; link names one.",
}
MODEL: Mapping[str, str] = {  # of a Hugging Face config.json
    "hiddensize": "architecture.hidden",
    "dmodel": "architecture.hidden",
    "nembd": "architecture.hidden",
    "intermediatesize": "architecture.intermediate",
    "numhiddenlayers": "architecture.layers",
    "nlayers": "architecture.layers",
    "nlayer": "architecture.layers",
    "numattentionheads": "architecture.heads",
    "nheads": "architecture.heads",
    "nhead": "architecture.heads",
    "numkeyvalueheads": "architecture.kv_heads",
    "nkvheads": "architecture.kv_heads",
    "headsize": "architecture.head_dim",
    "vocabsize": "vocabulary.entries",
    "maxpositionembeddings": "architecture.context",
    "contextlength": "architecture.context",
    "tiewordembeddings": "architecture.tied_head",
}
STUDY: Mapping[str, str] = {
    "grid": "axes",
    "sweep": "axes",
    "parameters": "axes",
    "params": "axes",
    "searchspace": "axes",
    "overrides": "set",
    "fixed": "set",
    "base": "scenario",
    "min": "`from` and `to` of an axis",
    "max": "`from` and `to` of an axis",
    "num": "`steps` of an axis",
    "ntrials": "search.trials",
    "direction": "`goal` of an objective: min or max",
}
TABLES = {"Scenario": SCENARIO, "Model": MODEL, "Study": STUDY}
# Kinds by the names that papers and programs give them.
KINDS: Mapping[str, Mapping[str, str]] = {
    "name": {
        "none": "target_only", "vanilla": "target_only", "autoregressive": "target_only", "baseline": "target_only",
        "ar": "target_only", "speculative": "sync", "chain": "sync", "blocking": "sync", "lockstep": "sync",
        "synchronous": "sync", "asynchronous": "async", "amusd": "async", "picospec": "pipelined",
        "pipeline": "pipelined", "dynamic": "adaptive", "disco": "adaptive", "adaedl": "adaptive", "parallel": "pearl",
        "ngram": "prompt_lookup", "pld": "prompt_lookup", "lookup": "prompt_lookup", "specinfer": "tree",
        "opttree": "tree", "eagle": "tree",
        "medusa": "tree", "custom": "own", "amax": "argmax", "raw": "logits", "topksample": "top_k_sampling",
    },
    "rule": {
        "exact": "greedy", "argmax": "greedy", "rejection": "ratio", "rejectionsampling": "ratio", "standard": "ratio",
        "rejectionsampler": "ratio", "leviathan": "ratio", "speculativesampling": "ratio", "modifiedrejection": "ratio",
        "typicalacceptance": "typical", "typicalacceptancesampler": "typical", "medusa": "typical",
        "blockverification": "block", "gumbelmax": "gumbel", "coupled": "gumbel", "lossy": "lenient",
        "relaxed": "lenient", "samplematching": "sample_match", "match": "sample_match",
    },
    "scheme": {
        "ids": "token_ids", "tokens": "token_ids", "token": "token_ids", "full": "full_rows", "logits": "full_rows",
        "probs": "full_rows", "probabilities": "full_rows", "rows": "full_rows", "dense": "full_rows",
        "distribution": "full_rows", "qsv": "top_k", "sparse": "top_k", "prob": "scalar", "probability": "scalar",
    },
    "source": {
        "model": "live", "models": "live", "torch": "live", "pytorch": "live", "recorded": "transcript",
        "recording": "transcript", "replay": "transcript", "random": "synthetic", "bernoulli": "synthetic",
    },
}  # fmt: skip
# Values by the end of their path: numbers that other programs write, and what is meant.
VALUES: Mapping[tuple[str, str], tuple[Sequence[object], str]] = {
    ("sampling", "top_k"): ((0, -1), "0 (llama.cpp) and -1 (vLLM) mean that nothing is cut: leave top_k out."),
    ("sampling", "top_p"): ((0, 0.0, -1, -1.0), "1 means that nothing is cut, as when top_p is left out."),
    ("sampling", "repetition_penalty"): ((0, 0.0), "1 means no penalty, as when it is left out."),
    ("", "seed"): ((-1,), "-1 means any seed in other programs; runs here repeat, so give a number."),
    ("workload", "max_new_tokens"): ((-1, -2, 0), "An answer without a limit is not supported; give context_tokens."),
    ("", "context_tokens"): ((0, -1), "0 means the model's own context in llama.cpp; give the number of tokens."),
    ("policy", "draft_tokens"): ((0,), "For no drafts use policy.name: target_only, without draft and link."),
}


def meant_by(wrong: str, record: str, place: str, exists: Sequence[str]) -> str:
    """What a foreign key of a described thing is here, as a sentence; "" where it is in no table.

    `place` is the dotted block in which it was found, `exists` the keys that this block does have.
    """
    ours = TABLES.get(record, {}).get(key(words(wrong)), "")
    if not ours or ours in exists:
        return ""
    if " " in ours:
        return ours if ours[0].isupper() else f"Here it is {ours.rstrip('.')}."
    block, _, name = ours.rpartition(".")
    return f"Here it is called {name}." if block == place and name in exists else f"Here it is {ours}."


def kind_meant(discriminator: str, wrong: str, tags: Sequence[str]) -> str | None:
    """The kind that a foreign name or another spelling means, if these tags have it."""
    plain = key(words(wrong))
    ours = next((tag for tag in tags if key(words(tag)) == plain), KINDS.get(discriminator, {}).get(plain))
    return ours if ours in tags else None


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
    """Which precisions have the weights that another program's name speaks of, or which there are."""
    plain = value.lower().replace("-", "_")
    bits = next((bits for bits, names in FORMATS.items() if re.fullmatch(names, plain)), None)
    same = [name for name in good if re.fullmatch(rf"w{bits}(a\d+)?|fp{bits}", name)]
    if same:
        return f"With {bits}-bit weights there is {' and '.join(same)}: the number after `a` is the activations' bits."
    return f"Use {' or '.join(good)}." if good else "Choose another unit."
