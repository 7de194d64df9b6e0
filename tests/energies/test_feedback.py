"""Weak feedback: its fixed point by hand, and EP against that fixed point's own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import EP, Fixed, Implicit, Tolerance, centered, equilibrium, linear, nets, one_sided
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.energies import feedback
from jaxep.energies.feedback import layer_weights
from jaxep.run.errors import SettingsError
from jaxep.training import Settings
from jaxep.training.systems import SYSTEMS

CLASSES, RATIO = 4, 0.4
SETTLE = Tolerance(3000, "alternating", tol=1e-14)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def chain(output="readout", **options):
    options = {"activation": jax.nn.sigmoid, "gain": 3.0, **options}
    return nets.mlp((7, 6, 5), (5, 1, 1), CLASSES, output=output, **options)


def neurons():
    return chain("neurons", output_activation=linear)


def pooled():
    conv = {"conv_activation": jnp.tanh, "dense_activation": jax.nn.sigmoid, "gain": 2.0}
    return nets.vgg("3 M 4", (6,), (5, 4, 1), CLASSES, **conv)


def with_local_errors():
    model = chain()
    return model.with_heads(*nets.local_errors(model.network, ("fc1", "fc2"), CLASSES))


def joined():
    return nets.hopfield((6, 5), (5, 1, 1), CLASSES, activation=jnp.tanh)


def problem(model):
    params = model.init_params(jax.random.key(0), jnp.float64)
    shape = model.network.inputs[0].shape
    x = jax.random.normal(jax.random.key(1), (3, *shape), jnp.float64)
    return params, x, nets.Targets(jnp.arange(3) % CLASSES, 0.7)


def estimated(estimator, energy, params, x, targets):
    run = jax.jit(estimator.value_and_grad(energy))
    return run(params, (x, targets), jax.random.key(0))


def norms(tree):
    return np.array([np.linalg.norm(leaf) for leaf in jax.tree.leaves(tree)])


def by_hand(edges, x, ratio, steps=400):
    """ξ_k <- σ(W ξ_{k-1} + b + ratio Wᵀ ξ_{k+1}) in NumPy, all layers at once, from 0."""
    names = sorted(edges)
    kernels = [np.asarray(edges[name]["kernel"]) for name in names]
    biases = [np.asarray(edges[name]["bias"]) for name in names]
    layers = [np.zeros((len(x), b.size)) for b in biases]
    for _ in range(steps):
        below = [np.asarray(x).reshape(len(x), -1), *layers]
        drives = [below[k] @ kernels[k] + biases[k] for k in range(len(names))]
        for k in range(len(names) - 1):
            drives[k] = drives[k] + ratio * layers[k + 1] @ kernels[k + 1].T
        layers = [1 / (1 + np.exp(-drive)) for drive in drives]
    return dict(zip(names, layers, strict=True))


def loss_by_hand(params, x, targets, ratio):
    """The readout's cross entropy at the fixed point by hand, a mean over the batch."""
    top = by_hand(params["edges"], x, ratio)["fc3"]
    logits = top @ np.asarray(params["heads"]["readout"]["kernel"])
    logits = logits + np.asarray(params["heads"]["readout"]["bias"])
    logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logits[np.arange(len(x)), np.asarray(targets.labels)].mean()


@pytest.mark.parametrize("ratio", [1.0, 0.4, 0.05])
def test_the_fixed_point_is_that_of_the_scaled_feedback_written_by_hand(ratio):
    model = chain()
    params, x, _ = problem(model)
    settle = jax.jit(lambda params, x: equilibrium(feedback(model, ratio), SETTLE, params, x))
    assert_trees_all_close(settle(params, x).states, by_hand(params["edges"], x, ratio), rtol=1e-11)


def test_the_implicit_gradient_is_the_slope_of_the_loss_at_the_fixed_point_by_hand():
    model = chain()
    params, x, targets = problem(model)
    exact = Implicit(SETTLE, tol=1e-13)
    loss, grads, _ = estimated(exact, feedback(model, RATIO), params, x, targets)
    assert float(loss) == pytest.approx(loss_by_hand(params, x, targets, RATIO), rel=1e-12)
    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed), 100)
        leaves, tree = jax.tree.flatten(params)
        way = [jax.random.normal(k, p.shape, p.dtype) for k, p in zip(keys, leaves, strict=False)]
        slope = sum(jnp.sum(g * w) for g, w in zip(jax.tree.leaves(grads), way, strict=True))
        ends = [[p + sign * 1e-5 * w for p, w in zip(leaves, way, strict=True)] for sign in (1, -1)]
        up, down = (loss_by_hand(jax.tree.unflatten(tree, e), x, targets, RATIO) for e in ends)
        assert (up - down) / 2e-5 == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize(
    ("build", "stencil", "order"),
    [(build, centered, 2) for build in (chain, neurons, with_local_errors, pooled, joined)]
    + [(chain, one_sided, 1)],
)
def test_ep_goes_to_the_implicit_gradient_in_every_layer(build, stencil, order):
    model = build()
    energy = feedback(model, RATIO)
    params, x, targets = problem(model)
    exact = estimated(Implicit(SETTLE, tol=1e-13), energy, params, x, targets)[1]

    @jax.jit
    def estimate(beta):
        run = EP(beta, SETTLE, SETTLE, stencil).value_and_grad(energy)
        return run(params, (x, targets), jax.random.key(0))[1]

    betas = np.array([4e-3, 2e-3, 1e-3])
    errors = [norms(jax.tree.map(jnp.subtract, estimate(b), exact)) / norms(exact) for b in betas]
    slopes = np.polyfit(np.log(betas), np.log(errors), 1)[0]
    np.testing.assert_allclose(slopes, order, atol=0.1)
    assert np.max(errors[-1]) < 20 * betas[-1] ** order


def test_without_lambda_each_layers_contrast_is_the_exact_one_times_ratio_to_the_layers_above():
    model = chain()
    energy = feedback(model, RATIO)
    params, x, targets = problem(model)
    _, grads, aux = estimated(EP(1e-3, SETTLE, SETTLE), energy, params, x, targets)
    plus, minus = (jax.tree.map(lambda s, i=i: s[i], aux.nudged.states) for i in (0, 1))
    own = jax.grad(lambda p, s: -jnp.sum(model.network.phi(p, x, s)) / (2e-3 * len(x)))
    plain = jax.tree.map(jnp.subtract, own(params, plus), own(params, minus))
    for above, name in enumerate(("fc3", "fc2", "fc1")):
        ratios = plain["edges"][name]["kernel"] / grads["edges"][name]["kernel"]
        np.testing.assert_allclose(ratios, RATIO**above, rtol=1e-6)


def test_the_update_of_the_paper_is_parallel_to_the_exact_one_only_as_the_ratio_goes_to_0():
    model = chain()
    params, x, targets = problem(model)
    found = {}
    for ratio in (0.2, 0.02):
        energy = feedback(model, ratio)
        _, grads, aux = estimated(EP(1e-4, SETTLE, SETTLE), energy, params, x, targets)
        moved = jax.tree.map(lambda s: (s[0] - s[1]) / 2e-4, aux.nudged.states)
        update = -aux.free.states["fc1"].T @ moved["fc2"] / len(x)
        exact = np.asarray(grads["edges"]["fc2"]["kernel"])
        found[ratio] = np.linalg.norm(update / ratio - exact) / np.linalg.norm(exact)
    assert found[0.2] > 0.02
    assert found[0.2] / found[0.02] == pytest.approx(10, rel=0.2), found


def test_no_sweep_of_clipped_neurons_raises_the_energy_with_lambda():
    model = nets.mlp((7, 6, 5), (5, 1, 1), CLASSES, output="neurons", gain=4.0)
    params, x, _ = problem(model)
    energy = feedback(model, RATIO)
    weights = layer_weights(model.network, RATIO)
    assert weights == pytest.approx({"fc1": 0.4**-3, "fc2": 0.4**-2, "fc3": 0.4**-1, "output": 1})

    def of(states):
        squares = sum(w * jnp.sum(states[name] ** 2) for name, w in weights.items())
        return 0.5 * float(squares) - float(jnp.sum(energy.phi(params, x, states)))

    states = jax.tree.map(lambda s: s + 0.5, energy.init_states(None, params, x))
    sweep = jax.jit(Sweep.over(free_objective(energy, params, x), states, "alternating"))
    values = [of(states)]
    for _ in range(12):
        states = sweep(states)
        values.append(of(states))
    assert values[-1] < values[0] - 1
    assert np.all(np.diff(values) <= 1e-12)


def test_a_ratio_of_1_is_the_models_own_energy_to_the_bit():
    model = joined()
    params, x, targets = problem(model)
    ep = EP(0.1, Fixed(9, "alternating", 1.7), 5)
    energies = feedback(model, 1.0), model.energy()
    one, other = (estimated(ep, energy, params, x, targets)[:2] for energy in energies)
    assert_trees_all_close(one, other, rtol=0, atol=0)


def test_a_skip_is_weaker_by_one_factor_for_each_layer_it_passes():
    weights = layer_weights(joined().network, 0.5)
    assert weights == {"fc1": 4, "fc2": 2, "output": 1}
    residual = nets.resnet((3, 4), (4, 4, 1), CLASSES).network
    names = ("res1_a", "res1_b", "res2_a", "res2_b", "output")
    assert layer_weights(residual, 0.5) == dict(zip(names, (16, 8, 4, 2, 1), strict=True))


def test_the_start_is_the_models():
    params, x, _ = problem(chain())
    states = feedback(chain(), 0.5, "uniform").init_states(jax.random.key(3), params, x)
    assert float(states["fc1"].std()) > 0.1
    with pytest.raises(ValueError, match="init_states"):
        feedback(chain(), 0.5, "ones")


@pytest.mark.parametrize("ratio", [0, -0.5, float("nan"), "0.5"])
def test_a_ratio_that_is_none_is_one_sentence(ratio):
    with pytest.raises(ValueError, match="feedback: ratio = .*: must be a number over 0"):
        feedback(chain(), ratio)


def test_a_cycle_and_a_power_beyond_float32_are_one_sentence():
    deep = nets.mlp((3,) * 20, (2, 1, 1), 2)
    with pytest.raises(ValueError, match="ratio = 0.01: its power 20 is beyond float32"):
        feedback(deep, 0.01)
    square = nets.Dense((3,), 3)
    layers = [nets.Layer("a", (3,)), nets.Layer("b", (3,))]
    edges = [nets.Edge("image", "a", square), nets.Edge("a", "b", square)]
    edges.append(nets.Edge("b", "a", square, "back"))
    network = nets.Network((nets.Input("image", (3,)),), layers, edges)
    with pytest.raises(ValueError, match="is in a cycle"):
        feedback(nets.Model(network, (nets.readout("b", (3,), 2),)), 0.5)


def test_the_system_takes_its_ratio_from_the_settings_or_refuses_it():
    net = {"dataset": "digits", "conv": "", "hidden": (4,) * 20, "system": "feedback"}
    for ratio, weight in ((0.5, 2.0**19), (0.01, None)):
        settings, system = Settings(**net, feedback=ratio), SYSTEMS["feedback"]
        model = system.build(settings, (8, 8, 1), 10, 1.0)
        if weight:
            sigma = system.energy(settings, model).activation["fc1"]
            np.testing.assert_allclose(sigma(jnp.asarray([weight / 2])), [0.5])
            continue
        with pytest.raises(SettingsError, match="config.feedback = 0.01: .* power 19 is beyond"):
            system.energy(settings, model)
