"""Predictive coding nets: the free equilibrium is a forward pass, EP's limit is backpropagation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    EP,
    Fixed,
    Settled,
    Tolerance,
    centered,
    energy_per_sample,
    linear,
    nets,
    one_sided,
    relu,
)
from jaxep.core.blocks import interactions
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.energies import predictive_coding

SHAPE, CLASSES = (8, 8, 1), 5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def chain():
    options = {"conv_activation": relu, "dense_activation": relu, "output_activation": linear}
    return nets.vgg("6 M 8", (12,), SHAPE, CLASSES, output="neurons", **options)


def residual():
    return nets.resnet((4, 6), SHAPE, CLASSES, activation=relu)


def problem(model):
    params = model.init_params(jax.random.key(0), jnp.float64)
    x = jax.random.normal(jax.random.key(1), (4, *SHAPE), jnp.float64)
    return predictive_coding(model), params, x, nets.Targets(jnp.arange(4) % CLASSES)


def forward(model, params, x):
    """The same net as a plain feedforward one: {layer: activation}."""
    values = {"image": x}
    for layer in model.network.layers:
        drive = 0.0
        for edge in model.network.edges:
            if edge.upper == layer.name:
                operators = edge.coupling.prepare(params["edges"][edge.name])
                drive = drive + edge.coupling.apply(operators, values[edge.lower])
        values[layer.name] = layer.activation(drive)
    return values


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("build", [chain, residual])
def test_the_free_equilibrium_is_one_forward_pass_of_energy_zero(build):
    model = build()
    energy, params, x, _ = problem(model)
    states = energy.init_states(None, params, x)
    expected = forward(model, params, x)
    assert_trees_all_close(states, {name: expected[name] for name in states}, rtol=1e-12)
    free = Fixed(1, "alternating").run(free_objective(energy, params, x), states)
    assert float(free.residual) < 1e-14
    assert np.abs(energy_per_sample(energy, params, x, states)).max() < 1e-12


@pytest.mark.parametrize(("stencil", "order"), [(centered, 2), (one_sided, 1)])
@pytest.mark.parametrize("build", [chain, residual])
def test_the_gradient_goes_to_backpropagations_with_the_order_of_the_stencil(build, stencil, order):
    model = build()
    energy, params, x, targets = problem(model)

    def loss(params):
        outputs = forward(model, params, x)["output"]
        return jnp.mean(0.5 * jnp.sum((outputs - jax.nn.one_hot(targets.labels, CLASSES)) ** 2, -1))

    exact = flat(jax.grad(loss)(params))
    nudge = Tolerance(100, "alternating", tol=1e-13)

    @jax.jit
    def estimate(beta):
        ep = EP(beta, Fixed(1, "alternating"), nudge, stencil)
        return ep.value_and_grad(energy)(params, (x, targets), jax.random.key(0))[1]

    betas = np.array([4e-3, 2e-3, 1e-3])
    errors = [np.linalg.norm(flat(estimate(b)) - exact) / np.linalg.norm(exact) for b in betas]
    assert errors[-1] < 10 * betas[-1] ** order
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1), errors


def test_as_many_sweeps_as_depth_nearly_settle_and_the_output_moves_first():
    model = chain()
    energy, params, x, targets = problem(model)
    assert energy.blocks["output"] == 0
    residuals = {}
    for from_drive in (True, False):
        energy = predictive_coding(model, from_drive=from_drive)
        ep = EP(0.02, Fixed(1, "alternating"), Fixed(5, "alternating"))
        aux = ep.value_and_grad(energy)(params, (x, targets), jax.random.key(0))[2]
        residuals[from_drive] = float(aux.nudged.residual)
    assert residuals[True] < 1e-4
    assert residuals[True] < residuals[False]


@pytest.mark.parametrize("build", [chain, residual])
def test_its_blocks_are_allowed_by_what_is_read_off_phi(build):
    model = build()
    energy, params, x, _ = problem(model)
    states = energy.init_states(None, params, x)
    joined, _ = interactions(lambda x, s: jnp.sum(energy.phi(params, x, s)), x, states)
    names = sorted(states)
    for i, others in enumerate(joined):
        assert all(energy.blocks[names[i]] != energy.blocks[names[j]] for j in others)
    pairs = {frozenset((names[i], names[j])) for i, others in enumerate(joined) for j in others}
    edges = {frozenset((e.lower, e.upper)) for e in model.network.edges if e.lower in states}
    assert edges <= pairs


@pytest.mark.parametrize("build", [chain, residual])
def test_what_is_kept_of_layers_that_do_not_move_changes_no_state(build):
    energy, params, x, targets = problem(build())
    states = energy.init_states(None, params, x)
    objective = free_objective(energy, params, x).nudged(targets, jnp.array([0.5, -0.5]))
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), states)
    sweep = Sweep.over(objective, copies, "alternating")
    expected = copies
    for _ in range(4):
        for moving in sweep.moves:  # each part of a sweep with nothing kept
            expected = Sweep(objective, (moving,))(expected)
    kept = Fixed(4, "alternating").run(objective, copies).states
    assert_trees_all_close(kept, expected, rtol=1e-12)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), kept, copies)
    assert min(jax.tree.leaves(moved)) > 1e-6


@pytest.mark.parametrize("order", ["alternating", "synchronous"])
@pytest.mark.parametrize("build", [chain, residual])
def test_layers_rest_until_the_nudge_has_reached_them(build, order):
    energy, params, x, targets = problem(build())
    states = energy.init_states(None, params, x)
    free, betas = free_objective(energy, params, x), jnp.array([0.5, -0.5])
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), states)
    resting = free.nudged(targets, betas, from_equilibrium=True)
    first = Sweep.over(resting, copies, order).first
    names = sorted(states)
    moved = [{names[index] for leaves in moves for index in leaves} for moves in first]
    assert "output" in moved[0] and moved[0] <= moved[-1] < set(names)
    for count in range(1, len(first) + 3):
        early = Fixed(count, order).run(resting, copies)
        whole = Fixed(count, order).run(free.nudged(targets, betas), copies)
        assert_trees_all_close(early, whole, rtol=1e-10, atol=1e-15)
        for name in set(names).difference(*moved[:count]) if count <= len(first) else ():
            np.testing.assert_allclose(early.states[name], copies[name], rtol=1e-12, atol=1e-15)


def test_ep_lets_layers_rest_only_after_an_exact_free_phase():
    energy, params, x, targets = problem(chain())
    begun = []

    class Watched(Fixed):
        def iterate(self, sweep, states):
            begun.append(sweep.first)
            return super().iterate(sweep, states)

    for free in (Settled(), Fixed(1, "alternating")):
        ep = EP(0.02, free, Watched(5, "alternating"))
        ep.value_and_grad(energy)(params, (x, targets), jax.random.key(0))
    assert begun[0] and begun[1] == ()


def test_a_sweep_multiplies_by_each_coupling_once_upwards_and_once_downwards():
    model = nets.vgg("", (12, 9), SHAPE, CLASSES, output="neurons", dense_activation=relu)
    energy, params, x, _ = problem(model)
    states = energy.init_states(None, params, x)

    def dots(count):
        def swept(params, x, states):
            objective = free_objective(energy, params, x)
            sweep = Sweep.over(objective, states, "alternating")
            position = sweep.begin(states)
            for _ in range(count):
                position = sweep.step(position)
            return position.states

        return jax.jit(swept).lower(params, x, states).compile().as_text().count(" dot(")

    inner = [edge for edge in model.network.edges if edge.lower in states]
    assert dots(4) - dots(3) == 2 * len(inner)


def test_nudged_phases_from_a_forward_pass_multiply_only_where_the_nudge_has_come():
    model = nets.vgg("", (12, 11, 9, 8, 7), SHAPE, CLASSES, output="neurons", dense_activation=relu)
    energy, params, x, targets = problem(model)
    states = energy.init_states(None, params, x)

    def dots(early):
        def swept(params, x, states):
            free = free_objective(energy, params, x)
            objective = free.nudged(targets, jnp.array([0.5]), from_equilibrium=True)
            copies = jax.tree.map(lambda leaf: leaf[None], states)
            return Sweep.over(objective, copies, "alternating").begin(copies, early).states

        return jax.jit(swept).lower(params, x, states).compile().as_text().count(" dot(")

    # Up to the last two layers and down from the output. Then up to the output, down to the fourth
    # layer and up to it; up to the fifth, down to it; down to the third and up to it.
    assert [dots(0), dots(1), dots(2)] == [0, 3, 10]
