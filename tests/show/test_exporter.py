"""Metrics of a run for Prometheus: text that its parser reads, totals of the report, and a run left as it was."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import hilsim
from hilsim.commands.main import main
from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.show.exporter import METRICS, SAMPLED, Exporter, exporting
from hilsim.show.run import Run
from tests.scenes import table_setup
from tests.trips import CHIP, FIRST_AUDIO_MS, trip_setup, trip_trace

Values = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read(exporter: Exporter) -> Values:
    """What Prometheus reads, by name and labels."""
    text = generate_latest(exporter.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(values: Values, name: str, **labels: str) -> float:
    """The sum of all samples of a name with these labels."""
    found = [value for (known, has), value in values.items() if known == name and labels.items() <= dict(has).items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


def run_counted(setup: Setup) -> tuple[Run, Exporter]:
    """A run with an exporter that watches it."""
    made: list[Exporter] = []

    @contextmanager
    def watch(setup: Setup, verdict: PlacementVerdict, text_of: Callable[[Sequence[int]], str]) -> Iterator[Exporter]:
        made.append(Exporter(setup, verdict.ledgers))
        yield made[0]

    return hilsim.simulate(setup, watch=watch), made[0]


def test_totals_are_those_of_the_report(tmp_path: Path) -> None:
    changes = ["workload={requests: 5, prompt_tokens: 12, output_tokens: 23}", "logits.acceptance=0.6"]
    setup = table_setup(tmp_path, *changes)
    run, exporter = run_counted(setup)
    values, found = read(exporter), run.report
    for policy, block in (("target_only", found["baseline"]), ("sync", found["speculative"])):
        trace = run.baseline if policy == "target_only" else run.speculative
        assert trace is not None
        labels = {"hilsim_policy": policy}
        assert total(values, "hilsim_rounds_total", **labels) == len(trace.rounds)
        assert total(values, "hilsim_output_tokens_total", **labels) == 5 * 23
        usage = "gen_ai_client_token_usage"
        assert total(values, f"{usage}_sum", gen_ai_token_type="output", **labels) == 5 * 23
        assert total(values, f"{usage}_sum", gen_ai_token_type="input", **labels) == 5 * 12
        assert total(values, f"{usage}_count", gen_ai_token_type="input", **labels) == 5
        for name, metric in (
            ("gen_ai_server_time_to_first_token_seconds", "time_to_first_token_ms"),
            ("gen_ai_server_time_per_output_token_seconds", "time_per_output_token_ms"),
            ("gen_ai_server_request_duration_seconds", "request_latency_ms"),
        ):
            assert total(values, f"{name}_count", **labels) == 5
            mean_ms = 1000 * total(values, f"{name}_sum", **labels) / 5
            assert math.isclose(mean_ms, block[metric]["mean"], rel_tol=1e-12)
        for track in trace.tracks:
            spans = [span for span in trace.spans if span.track == track]
            busy_ns = round(1e9 * total(values, "hilsim_busy_seconds_total", hw_id=track, **labels))
            assert busy_ns == sum(span.end_ns - span.start_ns for span in spans)
        assert total(values, "hilsim_simulated_time_seconds", **labels) == trace.end_ns / 1e9
    ours = found["speculative"]
    for name, key in (
        ("hilsim_drafts_total", "num_drafts"),
        ("hilsim_draft_tokens_total", "num_draft_tokens"),
        ("hilsim_accepted_tokens_total", "num_accepted_tokens"),
    ):
        assert total(values, name, hilsim_policy="sync") == ours[key]
        assert total(values, name, hilsim_policy="target_only") == 0
    (link,) = ours["links"].values()
    for way in ("up", "down"):
        sent = total(values, "hw_network_io_bytes_total", hw_id=f"test-link.{way}", hilsim_policy="sync")
        assert sent == link[f"bytes_{way}"]
    for chip, ledger in found["memory"].items():
        assert total(values, "hw_memory_size_bytes", hw_id=chip) == ledger["cap_bytes"]
        assert total(values, "hilsim_memory_usage_bytes", hw_id=chip) == ledger["used_bytes"]
    other, _ = run_counted(table_setup(tmp_path, *changes, "seed=2"))
    assert other.report["speculative"]["num_accepted_tokens"] != total(
        values, "hilsim_accepted_tokens_total", hilsim_policy="sync"
    )


def test_a_run_is_the_same_with_and_without_metrics(tmp_path: Path) -> None:
    setup = table_setup(tmp_path, "workload.requests=2", "logits.acceptance=0.5")
    counted, _ = run_counted(setup)
    alone = hilsim.simulate(setup)
    assert counted.speculative is not None
    assert alone.speculative is not None
    assert counted.speculative.spans == alone.speculative.spans
    assert counted.speculative.rounds == alone.speculative.rounds


def test_a_trip_has_turns_heat_and_what_the_passenger_hears() -> None:
    """Of a trace that can be done on paper: 1112 ms to the first audio, 1 K warmer a turn, the clock down to 80 %."""
    exporter = Exporter(trip_setup(), {})
    trace = trip_trace(refused=(2,), observer=exporter)
    values, labels = read(exporter), {"hilsim_policy": "sync"}
    assert total(values, "hilsim_turns_total", **labels) == len(trace.turns) == 6
    assert total(values, "hilsim_turns_total", outcome="refused", **labels) == 1
    assert total(values, "hilsim_first_audio_seconds_count", **labels) == 5
    assert math.isclose(total(values, "hilsim_first_audio_seconds_sum", **labels), 5 * FIRST_AUDIO_MS / 1000)
    at = {"hw_id": CHIP, **labels}
    assert total(values, "hw_temperature_celsius", hw_name="junction", **at) == 65.0
    assert total(values, "hilsim_clock_ratio", hw_name="npu", **at) == 0.8
    assert total(values, "hw_power_watts", **at) == 5.0


def test_every_quantity_that_is_sampled_has_a_metric() -> None:
    """The names that the simulator gives its samples, read from its source."""
    source = "".join(file.read_text(encoding="utf-8") for file in (PROJECT / "hilsim" / "sim").rglob("*.py"))
    added = re.findall(r'add_sample\(\([^()]*?"([a-z ]+)"', source)
    shown = re.findall(r'self\.show\([^()]*?"([a-z ]+)"', source)
    assert {*added, *shown} == {*SAMPLED}


def test_it_is_read_where_it_says_until_the_run_is_over(tmp_path: Path) -> None:
    setup = table_setup(tmp_path)
    with exporting(setup, {}, "127.0.0.1", 0) as (exporter, address):
        exporter.started("sync", ("a",), 1)
        with urllib.request.urlopen(address) as answer:
            assert 'hilsim_rounds_total{hilsim_policy="sync"} 0.0' in answer.read().decode()
        port = int(address.split(":")[2].split("/")[0])
        with (
            pytest.raises(InputError, match=r"--metrics-port: .*another port"),
            exporting(setup, {}, "127.0.0.1", port),
        ):
            pass
    for strange in ("a\0b", "x" * 300, "192.0.2.1"):
        with pytest.raises(InputError, match=r"--metrics-host: .*to listen on"), exporting(setup, {}, strange, 0):
            pass
    with exporting(setup, {}, "::1", 0) as (_, address), urllib.request.urlopen(address) as answer:
        assert address.startswith("http://[::1]:")
        assert answer.status == 200
    with socket.socket() as free, pytest.raises(ConnectionRefusedError):
        free.connect(("127.0.0.1", port))


def test_the_command_says_where_and_writes_the_same_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_setup(tmp_path)
    file = str(tmp_path / "table.yaml")
    assert main(["simulate", file, "--json", "--metrics-port", "0"]) == 0
    with_metrics = capsys.readouterr()
    assert with_metrics.err.startswith("metrics at http://127.0.0.1:")
    assert main(["simulate", file, "--json"]) == 0
    without = capsys.readouterr()
    assert without.err == ""
    assert with_metrics.out.partition('"wall"')[0] == without.out.partition('"wall"')[0]
    assert main(["simulate", file, "--metrics-host", "0.0.0.0"]) == 2
    assert "--metrics-port" in capsys.readouterr().err


def test_nothing_is_imported_or_counted_without_the_option(tmp_path: Path) -> None:
    table_setup(tmp_path)
    code = (
        "import sys; from hilsim.commands.main import main\n"
        f"status = main(['simulate', {str(tmp_path / 'table.yaml')!r}, '--json'])\n"
        "sys.exit(status or 'prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_of_metrics_lists_each() -> None:
    page = (PROJECT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    listed = [
        f"| `{metric.exported}` | `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.meaning} |"
        for metric in METRICS
    ]
    assert rows == listed
