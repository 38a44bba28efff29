"""`import`: Read what measuring tools write (llama-bench, Genie, QNN, AI Hub, TensorRT, vLLM, ...) into a CSV."""

from __future__ import annotations

import argparse
import sys

from hilsim.commands.arguments import Commands, number, place, source, whole
from hilsim.commands.outputs import require_place


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("import", help="read logs of measuring tools into a CSV of measured figures")
    parser.add_argument("files", metavar="FILE", nargs="+", type=source, help="logs (formats: docs/logs.md)")
    parser.add_argument("--out", metavar="FILE", type=place, help="where the CSV goes (default: standard output)")
    parser.add_argument(
        "--format", metavar="NAME", help="read the files as this format instead of the one that their content shows"
    )
    stated = parser.add_argument_group("what the files do not state")
    stated.add_argument("--device", metavar="NAME", help="the chip or board; of a file with several, the one to take")
    stated.add_argument("--model", metavar="NAME", help="the model")
    stated.add_argument("--precision", metavar="NAME", help="its number format: w4, w4a16, w8a8, fp16, ...")
    stated.add_argument(
        "--runtime", metavar="NAME", help="the program that ran it (default: the one that wrote the log)"
    )
    stated.add_argument("--unit", choices=("npu", "gpu", "cpu"), help="the kind of unit that it ran on")
    stated.add_argument(
        "--kind", choices=("network", "llm_decode", "llm_prefill"),
        help="what the passes of a QNN, TensorRT or ExecuTorch file are (default: a network's)",
    )  # fmt: skip
    stated.add_argument(
        "--context", metavar="N", type=whole(1, 10**8), help="tokens in the cache; on fixed graphs the compiled context"
    )
    stated.add_argument(
        "--prompt-width", metavar="N", type=whole(1, 10**5), help="rows of the compiled prompt graph (AI Hub's: 128)"
    )
    stated.add_argument("--params", metavar="N", type=number(1e-3, 2000), help="billions of parameters")
    stated.add_argument("--gmacs", metavar="N", type=number(1e-6, 1e7), help="a network's billions of multiply-adds")


def run(options: argparse.Namespace) -> int:
    """Write the CSV; what was used, what was not and why goes to standard error."""
    from rich.console import Console

    from hilsim.fidelity.from_file import from_here
    from hilsim.fidelity.imported import import_logs
    from hilsim.fidelity.importers.log import Given
    from hilsim.files import written
    from hilsim.show.imported import print_imported

    if options.out is not None:
        require_place(options.out, "--out")
    given = Given(
        device=from_here(options.device), model=options.model, precision=options.precision, runtime=options.runtime,
        unit=options.unit, kind=options.kind, context=options.context, prompt_width=options.prompt_width,
        params_b=options.params, gmacs=options.gmacs,
    )  # fmt: skip
    found = import_logs(options.files, given, options.format)
    if options.out is None:
        sys.stdout.write(found.text)
    else:
        with written(options.out) as temporary:
            temporary.write_text(found.text, encoding="utf-8")
    print_imported(Console(stderr=True), found, options.out)
    return 0
