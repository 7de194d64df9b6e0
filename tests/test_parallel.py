"""Eight virtual devices train as one does: same batch, same updates, to float64 rounding."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxep import parallel

ROOT = Path(__file__).parent.parent

# Its own process: the number of CPU devices is fixed when JAX starts.
PROGRAM = """
import jax, numpy as np
from jaxep import parallel, tasks, training
from jaxep.settings import from_config, load_config_file

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
    state = training.init_state(task, jax.random.key(0))
    state = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, state)
    step = jax.jit(lambda *a: training.train_step(task, *a))
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


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (20, 5), (50, 5), (64, 8), (7, 7), (11, 1)])
def test_mesh_takes_the_most_devices_that_divide_the_batch(batch, count, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: list(jax.devices()) * 8)
    monkeypatch.setattr(parallel, "Mesh", lambda devices, axes: np.asarray(devices))
    assert len(parallel.mesh_for(batch)) == count
