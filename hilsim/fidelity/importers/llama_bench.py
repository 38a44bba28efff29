"""The rows of llama-bench (-o csv, json, jsonl or md; ggml-org/llama.cpp, tools/llama-bench).

| of llama-bench                  | here                                                                       |
| n_prompt > 0, n_gen = 0         | llm_prefill of n_prompt tokens, tok_s = avg_ts                             |
| n_gen > 0, n_prompt = 0         | llm_decode, tok_s = avg_ts, n_depth + (n_gen + 1) / 2 tokens in the cache  |
| model_filename, model_n_params  | model, params_b                                                            |
| model_type, else model_filename | precision: Q4_* and IQ4_* 4-bit weights, Q8_0 8/8, F16 and BF16 fp16       |
| backends, n_gpu_layers, devices | primary_unit: CPU with -ngl 0, -dev none or in a CPU build, NPU with QNN,  |
|                                 | else GPU                                                                   |
| --device, --chip                | device; gpu_info and cpu_info are what the processor is called             |

Weights of other widths, caches that are not f16, prompts and answers in one figure (-pg), prompts behind other tokens
(-d), embeddings, mixtures of experts and models that are split between CPU and GPU, several devices or computers (RPC)
have no counterpart here: such rows are left out with the reason.

A Markdown table holds the same in other columns: params, ngl, test (pp512, tg128 @ d1024) and t/s (630.27 ± 1.20), and
of the settings those that were varied; it names no model's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import AGREE, Log, quantised

NAME = "llama-bench"
NEEDED = ("n_prompt", "n_gen", "avg_ts", "model_type")
IN_MARKDOWN = ("model", "test", "t_s")
# What a Markdown table calls the columns of the other formats.
MARKDOWN = {
    "model": "model_type", "ngl": "n_gpu_layers", "threads": "n_threads", "fa": "flash_attn",
    "mmap": "use_mmap", "nkvo": "no_kv_offload", "embd": "embeddings", "dev": "devices", "ts": "tensor_split",
    "ot": "tensor_buft_overrides",
}  # fmt: skip
TEST = re.compile(r"(?:pp ?(\d+))?\+?(?:tg ?(\d+))?(?: @ d(\d+))?")
SETTINGS = ("n_batch", "n_ubatch", "n_threads", "flash_attn", "use_mmap", "stddev_ts", "test_time", "build_commit")
FORMAT = re.compile(r"(?<![A-Z0-9])(BF16|F16|F32|MXFP4|NVFP4|(?:I?Q|TQ)\d(?:_[A-Z0-9]+)*)(?![A-Z0-9])")
# Mixtures of experts by the name of type or file: qwen3moe, Mixtral-8x7B, Qwen3-30B-A3B.
EXPERTS = re.compile(r"moe|\d+x\d+B(?![A-Z0-9])|(?<![A-Z0-9])A\d+(\.\d+)?B(?![A-Z0-9])", re.IGNORECASE)
YES = ("1", "true", "True")


def is_llama_bench(contents: Contents) -> bool:
    """Whether its rows have llama-bench's names."""
    return {"n_prompt", "n_gen", "avg_ts"} <= (set(contents.first) or set(contents.headers))


def is_markdown(contents: Contents) -> bool:
    """Whether it is llama-bench's table for people."""
    return set(IN_MARKDOWN) <= set(contents.headers)


def read(log: Log) -> None:
    """A row a record."""
    if log.contents.is_json:
        for line, record in log.contents.objects:
            texts = {key: str(value) for key, value in record.items() if isinstance(value, str | int | float)}
            read_row(log, line, texts)
        return
    for row in log.contents.whole_table(NEEDED).rows:
        read_row(log, row.line, row.cells)


def read_markdown(log: Log) -> None:
    """A row a line of the table."""
    for row in log.contents.whole_table(["model", "kind"]).rows:
        cells = {MARKDOWN.get(name, name): cell for name, cell in row.cells.items()}
        # Where figures stand, test is the kind, params are params_b and the backend is the runtime.
        cells["backends"] = row.cells.get("runtime", "")
        test = TEST.fullmatch(row.cells["kind"])
        if test is None or not (test[1] or test[2]):
            log.fault(f"line {row.line}, test", repr(row.cells["kind"]), "pp512, tg128 or tg128 @ d1024")
            continue
        rate, _, scatter = row.cells.get("t_s", "").partition("±")
        params = re.fullmatch(r"(\d+(?:\.\d+)?) ([BM])", row.cells.get("params_b", ""))
        cells |= dict(zip(("n_prompt", "n_gen", "n_depth"), (part or "0" for part in test.groups()), strict=True))
        cells |= {"avg_ts": rate.strip(), "stddev_ts": scatter.strip()}
        cells["model_n_params"] = f"{float(params[1]) * (1e9 if params[2] == 'B' else 1e6):.0f}" if params else ""
        read_row(log, row.line, cells)


def read_row(log: Log, line: int, record: Mapping[str, str]) -> None:
    """A record in our columns."""
    prompt, answer, depth = (whole(log, record, name, line) for name in ("n_prompt", "n_gen", "n_depth"))
    layers = whole(log, record, "n_gpu_layers", line, least=-1)
    rate, nanoseconds = (
        log.number(record, name, f"line {line}", needed=name == "avg_ts", zero=True) for name in ("avg_ts", "avg_ns")
    )
    if rate and nanoseconds and not 1 / AGREE < (prompt + answer) * 1e9 / nanoseconds / rate < AGREE:
        found = f"avg_ts {rate:g} and avg_ns {nanoseconds:g} for {prompt + answer} tokens"
        log.fault(f"line {line}, avg_ts", found, "two figures of one measurement", "Is the row cut or edited?")
    if not prompt and not answer:
        log.fault(f"line {line}, n_prompt", "no tokens, n_gen neither", "tokens read or generated")
    unit = unit_of(record.get("backends", ""), layers, record.get("devices", ""))
    weights, activations, stored = format_of(record)
    params = log.number(record, "model_n_params", f"line {line}", needed=False, zero=True)
    processor = record.get("cpu_info" if unit == "cpu" else "gpu_info", "")
    log.add(
        line,
        model=file_name(record) or record.get("model_type", ""),
        params_b=params / 1e9 if params else None,
        weight_bits=weights,
        act_bits=activations,
        kind="llm_prefill" if prompt and not answer else "llm_decode",
        context_len=prompt if prompt and not answer else depth + (answer + 2) // 2,
        metric="tok_s",
        value=record.get("avg_ts", ""),
        runtime="llama.cpp",
        source=f"{NAME} {record.get('build_commit', '')}".strip(),
        primary_unit=unit,
        note=", ".join(f"{name} {record[name]}" for name in SETTINGS if record.get(name)),
        forbidden=forbidden(record, prompt, answer, depth, stored),
        hardware=processor or record.get("cpu_info", ""),
        gpu_layers=layers if layers > 0 and unit != "cpu" else None,
    )


def file_name(record: Mapping[str, str]) -> str:
    """The name of the model's file, without its folder and ending."""
    return re.sub(r"\.gguf$", "", re.split(r"[/\\]", record.get("model_filename", ""))[-1])


def unit_of(backends: str, layers: int, devices: str) -> str:
    """Which kind of unit ran it, by the build's backends, the layers that left the CPU, and the devices asked for."""
    names = backends.casefold()
    if layers == 0 or devices.strip().casefold() in ("none", "cpu") or names in ("cpu", "blas", "cpu,blas", "blas,cpu"):
        return "cpu"
    return "npu" if any(name in names for name in ("hexagon", "htp", "qnn")) else "gpu"


def format_of(record: Mapping[str, str]) -> tuple[str, str, str]:
    """Bits of weights and activations, and the quantisation's name; empty where neither column has any."""
    for name in ("model_type", "model_filename"):
        if found := FORMAT.search(record.get(name, "").upper().replace("-", " ")):
            stored = found.group(1)
            return (*(quantised(stored) or ("", "")), stored)
    return "", "", ""


def forbidden(record: Mapping[str, str], prompt: int, answer: int, depth: int, stored: str) -> str:
    """Why a row has no counterpart among our figures, or ""."""
    cache = {record.get(name, "") or "f16" for name in ("type_k", "type_v")}
    if prompt and answer:
        return "a prompt and an answer are in one figure (-pg)"
    if prompt and depth:
        return "its prompt stands behind other tokens (-d)"
    if stored and quantised(stored) is None:
        return f"weights in {stored} are not modelled"
    if cache != {"f16"}:
        return f"a cache in {', '.join(sorted(cache - {'f16'}))} is not modelled"
    if record.get("no_kv_offload", "0") in YES:
        return "its cache stayed with the CPU (-nkvo)"
    if record.get("embeddings", "0") in YES:
        return "it makes embeddings, no tokens (-embd)"
    if record.get("n_cpu_moe", "0") not in ("0", "") or any(
        EXPERTS.search(name) for name in (record.get("model_type", ""), file_name(record))
    ):
        return "the model is no plain decoder (mixture of experts)"
    return elsewhere(record)


def elsewhere(record: Mapping[str, str]) -> str:
    """Why a row ran on more than the one unit that it would be taken for, or ""."""
    devices, shares = (
        [part.strip() for part in re.split(r"[/,;+]", record.get(name, "")) if part.strip()]
        for name in ("devices", "tensor_split")
    )
    if "rpc" in f"{record.get('backends', '')} {record.get('devices', '')}".casefold():
        return "other computers may have taken part (RPC)"
    if len(devices) > 1:
        return f"it ran on several devices ({record['devices']})"
    if sum(re.search(r"[1-9]", share) is not None for share in shares) > 1:
        return f"it was split between devices (-ts {record['tensor_split']})"
    if (moved := record.get("tensor_buft_overrides", "")) not in ("", "none"):
        return f"some of its tensors were moved (-ot {moved[:40]})"
    return ""


def whole(log: Log, record: Mapping[str, str], name: str, line: int, least: int = 0) -> int:
    """A count of a record; 0 where the column is missing, and after a fault."""
    text = record.get(name, "") or "0"
    if re.fullmatch(r"-?\d{1,9}", text) and int(text) >= least:
        return int(text)
    log.fault(f"line {line}, {name}", repr(text[:40]), f"a whole number from {least}")
    return 0
