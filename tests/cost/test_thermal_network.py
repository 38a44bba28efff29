"""The thermal network against closed forms: one node, two nodes, steady state, and where the heat is."""

from __future__ import annotations

from math import exp, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.cost.thermal_network import ThermalNetwork
from hilsim.describe.thermal import Thermal

EXACT = 1e-12
POWERS = st.lists(st.tuples(st.floats(0.001, 600), st.floats(0, 300), st.floats(0, 50)), min_size=1, max_size=40)


def figure(value: float, unit: str) -> dict[str, object]:
    return {"value": value, "unit": unit, "kind": "assumed", "source": "a round number"}


def node(capacity: float, resistance: float, to: str, *heated_by: str) -> dict[str, object]:
    return {
        "capacity": figure(capacity, "J/K"), "resistance": figure(resistance, "K/W"), "to": to,
        "heated_by": heated_by,
    }  # fmt: skip


def thermal(steps: tuple[dict[str, object], ...] = (), **nodes: dict[str, object]) -> Thermal:
    """A network of these nodes, whose governor watches the first."""
    return Thermal.model_validate(
        {
            "nodes": nodes,
            "governor": {"watches": next(iter(nodes)), "poll": figure(1, "s"), "steps": steps},
            "memory_energy": figure(5, "pJ/bit"),
            "critical": figure(120, "C"),
        }
    )


def one_node(capacity: float = 20) -> ThermalNetwork:
    return ThermalNetwork(thermal(soc=node(capacity, 3, "ambient", "npu", "memory", "idle")), 25)


def two_nodes(start_c: float | None = None) -> ThermalNetwork:
    """A die of 5 J/K on a housing of 200 J/K: 0.6 K/W between them, 1.5 K/W to the air."""
    nodes = {"die": node(5, 0.6, "housing", "npu", "memory"), "housing": node(200, 1.5, "ambient", "idle")}
    return ThermalNetwork(thermal(**nodes), 40, start_c)


def test_one_node_warms_and_cools_by_an_exponential() -> None:
    network = one_node()
    warm = network.drive({"npu": 7.0, "idle": 2.0})
    for seconds in (0.001, 1.0, 17.0, 300.0):
        before = network.temperature_c("soc")
        network.advance(seconds, warm)
        end = 25 + 9 * 3
        assert network.temperature_c("soc") == pytest.approx(end + (before - end) * exp(-seconds / 60), rel=EXACT)
    hot = network.temperature_c("soc")
    network.advance(45.0, network.drive({}))
    assert network.temperature_c("soc") == pytest.approx(25 + (hot - 25) * exp(-45 / 60), rel=EXACT)


def test_a_node_that_holds_one_percent_more_warms_and_cools_otherwise() -> None:
    """The negative control of the exponential: a tenth of a kelvin."""
    network = one_node(20.2)
    network.advance(60.0, network.drive({"npu": 9.0}))
    assert abs(network.temperature_c("soc") - (52 - 27 * exp(-1))) > 0.05
    hot = network.temperature_c("soc")
    network.advance(60.0, network.drive({}))
    assert abs(network.temperature_c("soc") - (25 + (hot - 25) * exp(-1))) > 0.05


def test_two_nodes_follow_the_two_exponentials_of_their_characteristic_polynomial() -> None:
    """x1' = (P - (x1 - x2)/R1)/C1, x2' = ((x1 - x2)/R1 - x2/R2)/C2, solved by hand for a step of P at rest."""
    network, watts = two_nodes(), 12.0
    a, b, c = 1 / (0.6 * 5), 1 / (0.6 * 200), 1 / (1.5 * 200)
    trace, determinant = a + b + c, a * c
    slow, fast = ((trace + sign * sqrt(trace**2 - 4 * determinant)) / 2 for sign in (-1, 1))
    end_die, end_housing = watts * 2.1, watts * 1.5
    # x1 = end + u e^-slow t + v e^-fast t, from x1(0) = 0 and x1'(0) = P / C1.
    u = (-end_die * fast + watts / 5) / (fast - slow)
    v = -end_die - u
    elapsed = 0.0
    for seconds in (0.2, 3.0, 40.0, 500.0):
        network.advance(seconds, network.drive({"npu": watts}))
        elapsed += seconds
        die = end_die + u * exp(-slow * elapsed) + v * exp(-fast * elapsed)
        housing = end_housing + u * (1 - slow / a) * exp(-slow * elapsed) + v * (1 - fast / a) * exp(-fast * elapsed)
        assert network.temperature_c("die") == pytest.approx(40 + die, rel=1e-10)
        assert network.temperature_c("housing") == pytest.approx(40 + housing, rel=1e-10)


def test_steady_state_is_every_watt_times_the_resistances_on_its_way() -> None:
    network = two_nodes()
    network.advance(1e6, network.drive({"npu": 10.0, "memory": 2.0, "idle": 4.0}))
    assert network.temperature_c("housing") == pytest.approx(40 + 16 * 1.5, rel=EXACT)
    assert network.temperature_c("die") == pytest.approx(40 + 16 * 1.5 + 12 * 0.6, rel=EXACT)


@given(POWERS, st.floats(40, 110))
@settings(max_examples=60, deadline=None)
def test_what_goes_in_is_stored_or_has_left(powers: list[tuple[float, float, float]], start_c: float) -> None:
    """To a millionth of all heat that moved, whatever the powers and the warmth at the start."""
    network, drawn = two_nodes(start_c), 0.0
    for seconds, npu, idle in powers:
        network.advance(seconds, network.drive({"npu": npu, "idle": idle}))
        drawn += seconds * (npu + idle)
    moved = drawn + 205 * (start_c - 40) + 1
    assert network.stored_j + network.to_ambient_j == pytest.approx(drawn, abs=1e-6 * moved)
    assert all(40 - 1e-6 <= celsius < 40 + 350 * 2.1 + 70 for celsius in network.temperatures_c().values())


def test_one_long_interval_is_many_short_ones() -> None:
    """Exact: how often the network is advanced under one power changes nothing. A mean power does."""
    long, short, averaged = two_nodes(), two_nodes(), two_nodes()
    for watts in (30.0, 0.0):
        drive = long.drive({"npu": watts})
        long.advance(10.0, drive)
        for _ in range(1000):
            short.advance(0.01, drive)
    averaged.advance(20.0, averaged.drive({"npu": 15.0}))
    assert long.temperature_c("die") == pytest.approx(short.temperature_c("die"), rel=1e-10)
    assert abs(averaged.temperature_c("die") - long.temperature_c("die")) > 1  # the negative control


def test_a_node_chain_of_any_length_reaches_the_air() -> None:
    chain = {
        f"n{i}": node(1 + i, 0.5, f"n{i + 1}" if i < 7 else "ambient", *(["npu"] if i == 0 else [])) for i in range(8)
    }
    network = ThermalNetwork(thermal(**chain), 20)
    network.advance(1e5, network.drive({"npu": 5.0}))
    assert network.temperature_c("n0") == pytest.approx(20 + 5 * 8 * 0.5, rel=1e-9)
