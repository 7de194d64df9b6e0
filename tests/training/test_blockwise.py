"""Blocks of EP joined by batch norm: their gradient is that of the net unrolled; their runs."""

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from chex import assert_trees_all_close

from jaxep import EP, Tolerance
from jaxep.core.layer import settling
from jaxep.core.solvers import Solution
from jaxep.nets.losses import cross_entropy
from jaxep.run.errors import CheckpointError
from jaxep.training import Settings, fit, load_run
from jaxep.training.blockwise import Blocks
from jaxep.training.networks import build_blocks, build_network

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(
    name="blocks",
    dataset="digits",
    train_size=60,
    test_size=30,
    task="blocks",
    blocks=3,
    conv="4 A 4",
    hidden=(8,),
    gain=1.0,
    init_states="uniform",
    solver="fixed",
    relaxation=1.0,
    t_free=8,
    t_nudge=4,
    beta=0.2,
    learning_rates={"default": 0.05, "conv2": 0.01},
    lr_schedule="constant",
    batch_size=20,
    epochs=4,
)


def unrolled(network):
    """The equilibrium of a block by 60 steps of the transition, which `jax.grad` differentiates."""

    def settle(params, x, keys):
        def step(states, _):
            drive = jax.grad(lambda states: jnp.sum(network.phi(params, x, states)))(states)
            return {name: network.activations[name](a) for name, a in drive.items()}, None

        zeros = network.init_states(None, len(x), "zeros", x.dtype)
        states, _ = jax.lax.scan(step, zeros, length=60)
        return Solution(states, jnp.zeros((), jnp.int32), jnp.zeros(()))

    return settle


def test_the_gradient_is_that_of_the_net_unrolled_by_hand():
    smooth = {"conv_activation": "sigmoid", "dense_activation": "sigmoid"}
    settings = dataclasses.replace(SETTINGS, init_states="zeros", **smooth)
    model = build_network(settings, (8, 8, 1), 10)
    parts = build_blocks(settings, model)
    solver = Tolerance(60, "alternating", tol=1e-15)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float64)
        keys, labels = jax.random.split(jax.random.key(2), 6), jnp.arange(6)
        ep = tuple(settling(part.energy(), EP(1e-3, solver, solver)) for part in parts)
        nets = [
            Blocks(model, parts, settle, None)
            for settle in (ep, tuple(unrolled(part.network) for part in parts))
        ]
        variables = nets[1].init(jax.random.key(0), x, keys, True)
        variables = jax.tree.map(lambda leaf: leaf.astype("float64"), variables)

        def loss(params, x, net):
            at = {**variables, "params": params}
            free, changed = net.apply(at, x, keys, True, mutable=["batch_stats"])
            logits = model.outputs(net.in_groups(params), free.states)
            return cross_entropy(logits, labels).mean(), changed

        grads = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
        (found, seen), (wanted, statistics) = (grads(variables["params"], x, net) for net in nets)
        assert_trees_all_close(seen, statistics, rtol=1e-10)
        assert set(found[0]) == {"block1", "block2", "block3", "norm2", "norm3", "readout"}
        for path, leaf in jax.tree.leaves_with_path(wanted):
            other = found
            for part in path:
                other = other[getattr(part, "key", getattr(part, "idx", None))]
            assert jnp.linalg.norm(leaf - other) < 1e-4 * jnp.linalg.norm(leaf) + 1e-12, path


def rows(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_run_goes_on_exactly_and_is_told_apart(tmp_path):
    fit(dataclasses.replace(SETTINGS, epochs=2), tmp_path / "cut")
    fit(SETTINGS, tmp_path / "cut")
    fit(SETTINGS, tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 4
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    with open(tmp_path / "whole" / "layers.csv", newline="") as file:
        layers = [row for row in csv.DictReader(file) if row["epoch"] == "4"]
    assert [row["layer"] for row in layers] == ["conv1", "conv2", "fc1", "readout"]
    assert all(float(row["gradient"]) > 0 for row in layers)
    with pytest.raises(CheckpointError, match="holds a run of task blocks: must be one of task ep"):
        load_run(tmp_path / "whole")


# Its own process: the number of CPU devices is fixed when JAX starts.
PROGRAM = """
import sys
import jax, numpy as np
from chex import assert_trees_all_close
from jaxep.training import parallel, loop, steps, workdata
from tests.training.test_blockwise import SETTINGS

data, found, mesh_for = workdata.load_data(SETTINGS), [], parallel.mesh_for
for devices in (1, 2):
    jax.clear_caches()
    parallel.mesh_for = lambda batch: mesh_for(devices)
    task = loop.make_task(SETTINGS, data)
    assert task.mesh.size == devices
    params, extra = task.init(jax.random.key(0))
    batch = data.train.images[:20], data.train.labels[:20]
    learned = jax.jit(task.update)(params, extra, 0, *batch, jax.random.key(1))
    judged = jax.jit(task.evaluate)(params, learned[1], *data.test, jax.random.key(2))
    found.append((learned, judged))
loss = found[0][0][2]["loss"]
assert np.isfinite(loss) and loss > 0
for both in found:
    both[0][2].pop("free_residual")  # of each share by itself
assert_trees_all_close(*found, rtol=1e-3, atol=1e-6)
"""


def test_two_devices_normalise_by_the_whole_batch():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
