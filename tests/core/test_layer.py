"""EP as a layer: two blocks in a flax net have the gradient of the same net unrolled by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

import jaxep
from jaxep import (
    EP,
    Energy,
    Fixed,
    Implicit,
    Tolerance,
    centered,
    holomorphic,
    one_sided,
    random_sign,
)

IN, HIDDEN, TOP, CLASSES, BATCH, SEEDS = 6, 7, 5, 3, 8, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def phi(params, x, states):
    drive = x @ params["in"] + params["bias"]
    pairs = (states["hidden"] @ params["up"]) * states["top"]
    return jnp.sum(drive * states["hidden"], -1) + jnp.sum(pairs, -1)


def zeros(key, params, x):
    shape = {"hidden": params["in"].shape[1], "top": params["up"].shape[1]}
    dtype = params["in"].dtype
    return {name: jnp.zeros((len(x), units), dtype) for name, units in shape.items()}


def unused(params, states, targets):
    raise AssertionError("the layer has no loss of its own")


ENERGY = Energy(phi, unused, zeros, activation=jnp.tanh)


def draw(key, inputs):
    keys = jax.random.split(key, 3)
    shapes = {"in": (inputs, HIDDEN), "up": (HIDDEN, TOP), "bias": (HIDDEN,)}
    drawn = zip(shapes.items(), keys, strict=True)
    return {name: 0.4 * jax.random.normal(k, s, jnp.float64) for (name, s), k in drawn}


def unrolled(params, x, key=None):
    """The equilibrium by 200 steps that `jax.grad` differentiates, each written out."""
    drive = x @ params["in"] + params["bias"]

    def step(top, _):
        hidden = jnp.tanh(drive + top @ params["up"].T)
        return jnp.tanh(hidden @ params["up"]), hidden

    top, hidden = jax.lax.scan(step, jnp.zeros((len(x), TOP), x.dtype), length=200)
    return {"hidden": hidden[-1], "top": top}


class Net(nn.Module):
    """Two blocks with a batch norm between them; hidden states are read as well."""

    block: object

    @nn.compact
    def __call__(self, x, key=None):
        first = self.block(self.param("first", draw, IN), x, key)
        norm = nn.BatchNorm(use_running_average=False, param_dtype=jnp.float64)
        x = norm(jnp.concatenate([first["top"], first["hidden"]], -1))
        top = self.block(self.param("second", draw, TOP + HIDDEN), x, key)["top"]
        return nn.Dense(CLASSES, param_dtype=jnp.float64)(top)


def net_loss(block, variables, x, key=None):
    logits, _ = Net(block).apply(variables, x, key, mutable=["batch_stats"])
    labels = jax.nn.one_hot(jnp.arange(BATCH) % CLASSES, CLASSES)
    return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))


def variables_of(seed):
    return Net(unrolled).init(jax.random.key(seed), jnp.ones((BATCH, IN)))


def inputs():
    return jax.random.normal(jax.random.key(9), (BATCH, IN), jnp.float64)


def estimator(stencil, sweeps=100):
    """(β, variables, x, key) -> the gradient in all variables and in x, by EP in both blocks."""
    solver = Tolerance(sweeps, "alternating", tol=1e-15)

    def estimate(beta, variables, x, key=None):
        layer = jaxep.layer(ENERGY, EP(beta, solver, solver, stencil))
        return jax.grad(lambda *of: net_loss(layer, *of), argnums=(0, 1))(variables, x, key)

    return jax.jit(estimate)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def exact(seed=0):
    gradient = jax.grad(lambda *of: net_loss(unrolled, *of), argnums=(0, 1))
    return gradient(variables_of(seed), inputs())


@pytest.mark.parametrize(("stencil", "order"), [(centered, 2), (one_sided, 1), (holomorphic(4), 4)])
def test_the_gradient_through_two_blocks_is_that_of_the_unrolled_net(stencil, order):
    variables, x, wanted = variables_of(0), inputs(), exact()
    estimate, betas = estimator(stencil), np.array([0.08, 0.04, 0.02])

    def error(beta):
        """The largest of the parts: kernels and biases of blocks, batch norm and readout, and x."""
        found = estimate(beta, variables, x)
        parts = jax.tree.leaves(jax.tree.map(lambda a, b: np.linalg.norm(a - b), found, wanted))
        sizes = jax.tree.leaves(jax.tree.map(np.linalg.norm, wanted))
        return max(p / s for p, s in zip(parts, sizes, strict=True) if s > 1e-12)

    errors = [error(beta) for beta in betas]
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1), errors
    assert errors[-1] < 300 * betas[-1] ** order
    assert errors[-1] < 0.1


def test_implicit_in_the_place_of_ep_is_exact():
    solver = Tolerance(200, "alternating", tol=1e-15)
    layer = jaxep.layer(ENERGY, Implicit(solver, tol=1e-12))
    gradient = jax.jit(jax.grad(lambda *of: net_loss(layer, *of), argnums=(0, 1)))
    assert_trees_all_close(gradient(variables_of(0), inputs()), exact(), rtol=1e-8, atol=1e-12)


def test_seeds_may_be_vmapped_and_a_random_sign_needs_a_key():
    variables = jax.tree.map(lambda *v: jnp.stack(v), *[variables_of(s) for s in range(SEEDS)])
    estimate, keys = estimator(random_sign), jax.random.split(jax.random.key(0), SEEDS)
    found = jax.vmap(estimate, (None, 0, None, 0))(1e-6, variables, inputs(), keys)
    wanted = jax.tree.map(lambda *v: jnp.stack(v), *[exact(seed) for seed in range(SEEDS)])
    assert np.linalg.norm(flat(found) - flat(wanted)) < 1e-4 * np.linalg.norm(flat(wanted))
    with pytest.raises(ValueError, match="random sign needs a random key, is given None"):
        estimate(0.1, variables_of(0), inputs())
    draws = jax.random.split(jax.random.key(0), 6)
    signs = {float(estimate(0.3, variables_of(0), inputs(), key)[1].sum()) for key in draws}
    assert len(signs) == 2


def block(dtype=jnp.float32):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), draw(jax.random.key(0), IN))
    return params, inputs().astype(dtype)


@pytest.mark.parametrize("nudge", [Fixed(30, "alternating"), Tolerance(30, "alternating")])
def test_a_small_cotangent_does_not_drown_in_float32(nudge):
    """The estimate is linear in the size of the cotangent of each sample, though β stays."""
    params, x = block()
    layer = jaxep.layer(ENERGY, EP(0.1, Fixed(50, "alternating"), nudge))
    weights = jax.random.normal(jax.random.key(2), (BATCH, TOP), jnp.float32)

    @jax.jit
    def pull(sizes):
        states, back = jax.vjp(layer, params, x)
        top = sizes[:, None] * weights
        return back({"hidden": jnp.zeros_like(states["hidden"]), "top": top})

    of_params, of_x = pull(jnp.ones(BATCH, jnp.float32))
    small = np.full(BATCH, 2.0**-80, np.float32)  # its square is 0
    assert_trees_all_close(flat(pull(small)) / small[0], flat((of_params, of_x)), rtol=1e-5)
    # One sample does not hear of the others: one is large, one is 0.
    mixed = small.copy()
    mixed[:2] = 2.0**20, 0
    found = pull(mixed)[1] / np.where(mixed > 0, mixed, 1)[:, None]
    assert_trees_all_close(found, of_x * (mixed > 0)[:, None], rtol=1e-5)


def test_integer_inputs_and_states_of_any_tree():
    """x are tokens, whose embedding is a parameter; the states are one array."""

    def phi(params, x, state):
        return jnp.sum(params["embedding"][x] * state, -1) + jnp.sum(
            state * jnp.tanh(state @ params["loop"]), -1
        )

    solver = Tolerance(200, tol=1e-15)
    energy = Energy(phi, unused, lambda key, params, x: jnp.zeros((len(x), TOP)), jnp.tanh)
    layer = jaxep.layer(energy, EP(1e-3, solver, solver))
    keys = jax.random.split(jax.random.key(0))
    params = {
        "embedding": jax.random.normal(keys[0], (10, TOP), jnp.float64),
        "loop": 0.2 * jax.random.normal(keys[1], (TOP, TOP), jnp.float64),
    }
    x = jnp.array([3, 1, 3])

    def unrolled_loss(params):
        def step(state, _):
            return jnp.tanh(jax.grad(lambda s: jnp.sum(phi(params, x, s)))(state)), None

        return jnp.sum(jax.lax.scan(step, jnp.zeros((3, TOP)), length=200)[0] ** 3)

    found = jax.grad(lambda params: jnp.sum(layer(params, x) ** 3))(params)
    _, pull = jax.vjp(layer, params, x)
    assert pull(jnp.ones((3, TOP)))[1].dtype == jax.dtypes.float0
    direction = jax.tree.map(lambda p: jax.random.normal(keys[0], p.shape, jnp.float64), params)
    _, slope = jax.jvp(unrolled_loss, (params,), (direction,))
    inner = jax.tree.map(lambda g, d: jnp.sum(g * d), found, direction)
    assert sum(jax.tree.leaves(inner)) == pytest.approx(float(slope), rel=1e-5)


def test_what_is_no_block_is_refused():
    with pytest.raises(ValueError, match="layer: ep = 0.1: must be an EP or an Implicit"):
        jaxep.layer(ENERGY, 0.1)
    with pytest.raises(ValueError, match="layer: energy = 'net': must be an Energy"):
        jaxep.layer("net", EP(0.1, 5, 5))
    summed = Energy(lambda *of: jnp.sum(phi(*of)), unused, zeros, jnp.tanh)
    layer, (params, x) = jaxep.layer(summed, EP(0.1, 5, 5)), block(jnp.float64)
    with pytest.raises(ValueError, match=r"phi returns \[\]: must be \[8\] here"):
        jax.grad(lambda params: jnp.sum(layer(params, x)["top"]))(params)
