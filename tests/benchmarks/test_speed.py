"""The benchmarks of speed and memory: what they count, that they compare like with like."""

import functools
import importlib.util

import jax.numpy as jnp
import pytest

from benchmarks import report
from benchmarks.shared import workload
from benchmarks.shared.runs import Run, settings_of
from benchmarks.speed import backprop_ratio, graphs, lowerings, memory, solvers, step_time
from jaxep.nets.builders import resnet, vgg
from jaxep.nets.couplings import Conv, Dense


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_products_are_the_places_of_the_matrix_that_are_not_zero(size, padding):
    coupling = Conv((*size, 2), 3, padding=padding, lowering="dense")
    matrix = coupling.prepare({"kernel": jnp.ones((3, 3, 2, 3)), "bias": jnp.zeros(3)}).forward
    assert workload.products(coupling) == jnp.count_nonzero(matrix)
    assert workload.products(Dense((2, 3, 4), 5)) == 24 * 5


@pytest.mark.parametrize(("variant", "sweeps"), [("centered", 16 + 2 * 8), ("random_sign", 16 + 8)])
def test_every_sweep_multiplies_once_up_and_once_down(variant, sweeps):
    net = {"conv": "", "hidden": (20, 5), "ep_variant": variant, "batch_size": 4}
    settings = settings_of(Run("vgg7_std", {**net, "learning_rates": 0.1}))
    way = {"free_steps": 16.0, "nudge_steps": 8.0, "step_ms": 2.0}
    gflop = backprop_ratio.sweeps_gflop(settings, way)
    # Without the drive of the input, and without the readout, which is no coupling.
    assert gflop == pytest.approx(sweeps * 4 * (2 + 2) * 20 * 5 / 1e9)
    row = {"matmul_gflops": 500 * gflop}
    assert backprop_ratio.share(row, {**way, "sweeps_gflop": gflop}) == pytest.approx(1)
    assert backprop_ratio.share(row, way) is None


@pytest.mark.parametrize(("size", "padding"), [(4, 1), (4, 0), (8, 1)])
def test_lowerings_measures_all_that_fit_the_map(size, padding):
    times = lowerings.time_pairs(size, padding, 32, rounds=1)
    fit = {name for name, largest in lowerings.LARGEST_MAP.items() if size <= largest}
    assert set(times) == fit and min(times.values()) > 0
    row = {"map": size, "padding": padding, "channels": 32, "ms": times}
    assert f"{times['winograd']:.3f}" in lowerings.table({"rows": [row]})


def test_a_smaller_tolerance_is_nearer_to_the_settled_gradient():
    p = solvers.PROBLEMS["4 layers, random"]()
    run = solvers.gradient(p, "tolerance, alternating")
    settled, steps = run(1e-6, 1e-6, 500)
    assert max(steps) < 500
    coarse, middle, fine = (
        solvers.error(run(t, t / 5, 500)[0], settled) for t in (0.1, 1e-2, 1e-3)
    )
    assert fine < 0.1 * coarse and fine < middle < coarse
    assert solvers.error(settled, solvers.exact(p, "alternating")) < 0.5  # EP's own error


def test_fastest_is_the_least_time_under_the_error():
    pairs = ((0.5, 0.1), (0.05, 0.3), (0.04, 0.2), (0.001, 0.9))
    rows = [{"method": "a", "error": error, "seconds": seconds} for error, seconds in pairs]
    assert solvers.fastest(rows, "a", goal=0.1) == rows[2]
    assert solvers.fastest(rows, "a", goal=1e-4) is None
    assert solvers.fastest(rows, "b") is None


@pytest.mark.slow
def test_memory_of_vgg7_with_local_errors_stays_under_250_mb():
    row = workload.alone(memory.measure_row, ("VGG-7", "LE"), 128)
    assert row["arguments_mb"] < row["total_mb"] < 250


SMALL = functools.partial(vgg, "8 M 8 M 8 M", (8,), (32, 32, 3), 10)


def test_step_time_measures_a_small_net_and_refuses_other_states(monkeypatch):
    """With torch where it is installed, and else without its engines."""
    monkeypatch.setitem(workload.NETS, "vgg5", SMALL)
    result = step_time.measure_net("vgg5", 2, rounds=1, peer="", count=2)
    assert all(engine["gap"] < 1e-5 for engine in result["states"].values())
    told = step_time.table({"vgg5": result})
    torch = ["PyTorch"] if importlib.util.find_spec("torch") else []
    assert all(name in told for name in (*step_time.ours(), *torch, "naive JAX"))
    assert [claim.holds is not None for claim in step_time.claims({"vgg5": result})]
    p = workload.problem("vgg5", 2)
    right = step_time.naive_engine(p)
    wrong = step_time.Engine(lambda steps: right.steps(steps + 1))
    with pytest.raises(SystemExit, match="other: 2 samples differ"):
        step_time.check(p, {"naive JAX": right, "other": wrong})


@pytest.mark.parametrize("net", ["chain", "residual"])
def test_a_sweep_over_the_colours_of_a_graph_costs_one_step(net, monkeypatch):
    residual = functools.partial(resnet, (8, 8), (16, 16, 3), 10)
    monkeypatch.setitem(workload.NETS, net, SMALL if net == "chain" else residual)
    p = workload.problem(net, 2)
    flops = workload.sweep_gflop(p)
    assert 0 < flops["alternating"] <= graphs.ALLOWED * flops["synchronous"]
    # XLA counts what is added and clipped too.
    assert flops["synchronous"] > 0.9 * workload.step_flops(p.network, 2) / 1e9


@pytest.mark.slow
def test_graphs_measures_a_net_in_a_process_of_its_own():
    row = workload.alone(graphs.measure_net, "digits_le", 4, 1)
    assert (row["layers"], row["weights"], row["colours"]) == (7, 8, 2)
    assert min(row["compile_s"], row["temporary_mb"], *row["sweep_ms"].values()) > 0
    (claim,) = graphs.claims({"digits_le": row})
    assert claim.holds and claim.statement in report.section("graphs", {"digits_le": row}, set())
