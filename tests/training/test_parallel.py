"""Eight virtual devices train as one does: same batch, same updates, to float64 rounding."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep.run.errors import SettingsError
from jaxep.training import parallel

ROOT = Path(__file__).parents[2]

# Its own process: the number of CPU devices is fixed when JAX starts.
PROGRAM = """
import jax, numpy as np
from jaxep.training import parallel, tasks, loop as training, steps as updates
from jaxep.training.settings import from_config, load_config_file

assert jax.local_device_count() == 8
config = load_config_file("configs/digits_le.py")
config.conv, config.hidden, config.signal_layers = "4 M 6 M", (8,), (0, 1)
config.learning_rates, config.batch_size, config.epochs = (0.01,) * 4, 16, 1
config.train_size = config.test_size = 64
settings = from_config(config)
data = training.load_data(settings)
single = tasks.data_lib.normalise
tasks.data_lib.normalise = lambda *arguments: single(*arguments).astype("float64")

def two_updates():
    jax.clear_caches()
    task = tasks.ep_task(settings, data, 4)
    state = updates.init_state(task, jax.random.key(0))
    state = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, state)
    step = jax.jit(lambda *a: updates.train_step(task, *a))
    for start in (0, 16):
        images, labels = (part[start : start + 16] for part in data.train)
        state, metrics = step(state, images, labels, jax.random.key(1), 1.0)
    judged = task.evaluate(state.params, {}, *data.test, jax.random.key(0))
    return (state.params, metrics["loss"], *judged), state

result, state = two_updates()
kernel = state.params["layers"][0]["kernel"]
assert len(kernel.sharding.device_set) == 8 and kernel.sharding.is_fully_replicated
assert kernel.dtype == "float64"
whole = parallel.mesh_for
parallel.mesh_for = lambda batch: whole(1)
expected, state = two_updates()
assert len(state.params["layers"][0]["kernel"].sharding.device_set) == 1
for got, want in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
print("equal")
"""


def test_eight_devices_equal_one():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": "1"}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("equal\n"), done.stderr


def test_samples_that_do_not_divide_evenly_come_back_in_order():
    program = """
import jax, jax.numpy as jnp, numpy as np
from jaxep.training import parallel
mesh = parallel.mesh_for(8)
assert mesh.size == 8
batch = jnp.arange(13.0)[:, None] * jnp.ones(3)
got = parallel.samples_over_devices(lambda w, x: w * x.sum(1), 2.0, batch, mesh=mesh)
np.testing.assert_array_equal(got, 6 * np.arange(13.0))
placed = parallel.replicated((batch, jax.random.key(3)), mesh)
assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 8 for leaf in placed)
tree = {"a": np.float32([-0.0, np.nan]), "b": np.int32(7)}
assert parallel.from_first(tree) is tree and parallel.on_host(tree) is tree
assert parallel.any_process(True) is True and parallel.any_process(False) is False
print("equal")
"""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (20, 5), (50, 5), (64, 8), (7, 7), (11, 1)])
def test_mesh_takes_the_most_devices_that_divide_the_batch(batch, count, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda process_index: list(jax.devices()) * 8)
    monkeypatch.setattr(parallel, "Mesh", lambda devices, axes: np.asarray(devices))
    assert len(parallel.mesh_for(batch)) == count


@pytest.mark.parametrize(("batch", "count"), [(12, 6), (16, 8), (8, 8), (10, 2), (2, 2)])
def test_every_process_has_as_many_devices_in_the_mesh(batch, count, monkeypatch):
    groups = {0: list(range(5)), 1: list(range(10, 14))}
    monkeypatch.setattr(jax, "local_devices", lambda process_index: groups[process_index])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(parallel, "Mesh", lambda devices, axes: np.asarray(devices))
    mesh = parallel.mesh_for(batch)
    assert len(mesh) == count and sum(mesh < 10) == sum(mesh >= 10)
    with pytest.raises(SettingsError, match="a multiple of the number of processes, 2"):
        parallel.mesh_for(batch + 1)


@pytest.mark.parametrize(("size", "largest", "count"), [(12, 5, 3), (12, 12, 1), (7, 5, 7)])
def test_shares_in_turn_give_the_mean_of_the_whole(size, largest, count):
    samples = jax.random.normal(jax.random.key(0), (size, 3))
    traced = []

    def mean(params, batch, power):
        traced.append(batch.shape)
        return {"mean": jnp.mean((params * batch) ** power, axis=0)}

    whole = {"mean": jnp.mean((2.0 * samples) ** 2, axis=0)}
    got = parallel.mean_over_shares(mean, largest, 2.0, samples, 2)
    assert_trees_all_close(got, whole, rtol=1e-6)
    assert set(traced) == {(size // count, 3)}


def test_shares_are_small_by_themselves_only_on_a_cpu(monkeypatch):
    samples = jnp.zeros((64, 1))
    seen = []

    def mean(params, batch):
        seen.append(len(batch))
        return jnp.mean(batch)

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    parallel.mean_over_shares(mean, 0, None, samples)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    parallel.mean_over_shares(mean, 0, None, samples)
    assert set(seen[:-1]) == {parallel.DEFAULT_SHARE} and seen[-1] == 64
