"""States to save, and checkpoints to damage, for the tests of both."""

import os
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxep.run.checkpoints import Checkpoints


@flax.struct.dataclass
class TrainState:
    params: Any
    opt_state: Any
    extra: Any
    step: Any


def make_state(seed, width=40):
    """A state with every kind of leaf and container a run has, all of it different by `seed`."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "layers": (
            {"kernel": jax.random.normal(keys[0], (3, 3, 8, width)), "bias": jnp.zeros(width)},
            {"kernel": jax.random.normal(keys[1], (width, 5), jnp.bfloat16)},
        ),
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45, seed], jnp.float32),
    }
    labels = {"layers": ("fast", "slow"), "odd": "slow"}
    rates = {"fast": optax.cosine_decay_schedule(0.1, 10), "slow": 0.01}
    optimizer = optax.chain(
        optax.add_decayed_weights(3e-4),
        optax.multi_transform({k: optax.sgd(r, 0.9) for k, r in rates.items()}, labels),
    )
    updates, opt_state = optimizer.update(params, optimizer.init(params), params)
    extra = {"mean": jax.random.uniform(keys[2], (width,)), "none": None, "empty": (), "n": seed}
    return TrainState(params, opt_state, extra, jnp.asarray(seed, jnp.int32))


def assert_same(restored, saved):
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert type(one) is type(other)
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def save_run(workdir, accuracies=(0.1, 0.2), keep=2):
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step, accuracy in enumerate(accuracies, start=1):
            checkpoints.save(step, make_state(step), {"test_acc": accuracy})
    return workdir / "checkpoints"


def steps_on_disk(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def largest_file(directory):
    return max(
        (path for path in directory.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)
