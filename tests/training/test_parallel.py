"""Eight virtual devices train as one does: same batch, same updates, to float64 rounding."""

import hashlib
import json
import os
import socket
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

# Its own process: the number of CPU devices is fixed when JAX starts. From random initial states:
# they must not depend on how a batch is cut.
PROGRAM = """
import dataclasses
import jax, numpy as np
from jaxep.training import parallel, tasks, loop as training, steps as updates, workdata
from jaxep.training.settings import Settings

assert jax.local_device_count() == 8
settings = Settings(
    dataset="digits", conv="4 M 6 M", hidden=(8,), signal="le", signal_layers=(0, 1), kappa=2.0,
    init_states="uniform", solver="fixed", relaxation=1.0, t_free=9, t_nudge=4, beta=2.0,
    learning_rates=0.01, batch_size=16, epochs=1, train_size=64, test_size=64,
)
data = workdata.load_data(settings)
single = tasks.data_lib.normalise
tasks.data_lib.normalise = lambda *arguments: single(*arguments).astype("float64")
whole = parallel.mesh_for

def two_updates(devices, micro_batch):
    jax.clear_caches()
    parallel.mesh_for = lambda batch: whole(devices)
    task = tasks.ep_task(dataclasses.replace(settings, micro_batch=micro_batch), data, 4)
    state = updates.init_state(task, jax.random.key(0))
    state = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, state)
    step = jax.jit(lambda *a: updates.train_step(task, *a))
    losses = []
    for start in (0, 16):
        images, labels = (part[start : start + 16] for part in data.train)
        state, metrics = step(state, images, labels, jax.random.key(1))
        losses.append(metrics["loss"])
    judged = jax.jit(task.evaluate)(state.params, {}, *data.test, jax.random.key(0))
    kernel = state.params["edges"]["conv1"]["kernel"]
    assert len(kernel.sharding.device_set) == devices and kernel.sharding.is_fully_replicated
    assert kernel.dtype == "float64"
    return state.params, losses, judged

expected = two_updates(1, 16)
assert abs(expected[1][0] - expected[1][1]) > 1e-3
for cut in ((1, 3), (2, 4), (8, 1)):
    result = two_updates(*cut)
    for got, want in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11, err_msg=str(cut))
print("equal")
"""


def test_any_cut_of_a_batch_gives_the_same_updates_from_random_states():
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


FACTS = {"config.seed": 0, "config.beta": 2.0, "crc32 of the data": "1a2b3c4d"}


def gathered(monkeypatch, *processes):
    """Puts what all processes give in the place of the gathering, which runs over a network."""
    texts = [json.dumps(facts, sort_keys=True).encode() for facts in processes]

    def gather(own):
        if isinstance(own, tuple):
            digests = [np.frombuffer(hashlib.sha256(t).digest(), np.uint8) for t in texts]
            return np.stack(digests), np.asarray([len(t) for t in texts])
        return np.stack([np.frombuffer(t.ljust(len(own)), np.uint8) for t in texts])

    monkeypatch.setattr(jax, "process_count", lambda: len(processes))
    monkeypatch.setattr(parallel.multihost_utils, "process_allgather", gather)


@pytest.mark.parametrize("mine", [0, 1])
def test_processes_of_other_settings_are_told_the_keys(mine, monkeypatch):
    others = FACTS, {**FACTS, "config.beta": 0.01, "version of jax": "0.9.0"}
    gathered(monkeypatch, *others)
    with pytest.raises(SettingsError) as error:
        parallel.must_agree(others[mine])
    assert str(error.value) == (
        "the processes of a run must be equal: config.beta = 2.0 in process 0, 0.01 in 1; "
        'version of jax = "absent" in process 0, "0.9.0" in 1'
    )


def test_equal_processes_agree_and_one_has_nobody_to_ask(monkeypatch):
    parallel.must_agree({"anything": object()})
    gathered(monkeypatch, FACTS, dict(reversed(FACTS.items())), FACTS)
    parallel.must_agree(FACTS)


MEETING = """
import sys, jax
from jaxep.run.errors import SettingsError
from jaxep.training import parallel
port, number = sys.argv[1:]
parallel.join(f"127.0.0.1:{port}", int(number), 2)
parallel.must_agree({"config.seed": 7})
try:
    parallel.must_agree({"config.seed": 7, "config.beta": [0.5, 0.25][int(number)], "x": "é" * 99})
except SettingsError as error:
    print(error)
"""


def test_two_real_processes_are_both_told(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, port, number],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    try:
        ends = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for out, err in ends:
        assert out.splitlines()[-1].endswith("config.beta = 0.5 in process 0, 0.25 in 1"), err
