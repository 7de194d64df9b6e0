"""Networks with feedback weights of their own: exact EP without symmetric weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import BPTT, FieldEP, Fixed, Implicit, Tolerance, nets
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.energies import Untied, untied, vector_field
from tests.draws import inputs_of, params_of, states_of

SHAPE, CLASSES, BATCH = (6, 6, 2), 4, 3
SETTLED = Tolerance(1000, "alternating", tol=1e-14)
TARGETS = nets.Targets(jnp.arange(BATCH) % CLASSES, 0.5)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def chain(pool="M", **options):
    """Two convolutions, one below a pool, and a dense layer, with a local error."""
    model = nets.vgg(f"4 {pool} 5", (6,), SHAPE, CLASSES, **options)
    return model.with_heads(*nets.local_errors(model.network, ["conv2"], CLASSES))


def residual():
    return nets.resnet((3, 3), SHAPE, CLASSES, activation=jnp.tanh, output_activation=jnp.tanh)


NETS = {
    "max pool": functools.partial(chain, "M", conv_activation=jnp.tanh, dense_activation=jnp.tanh),
    "average pool, clipped": functools.partial(chain, "A"),
    "residual": residual,
}


def problem(name):
    model = untied(NETS[name]())
    return model, params_of(model, gain=1.2), (inputs_of(model, BATCH), TARGETS)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradient(estimator, field, params, batch):
    return jax.jit(estimator.value_and_grad(field))(params, batch, jax.random.key(1))[1]


def apart(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("name", NETS)
def test_it_is_exact_with_the_correction_and_biased_without(name):
    model, params, batch = problem(name)
    field = vector_field(model, alignment=0.3)
    exact = flat(gradient(Implicit(SETTLED, tol=1e-13), field, params, batch))
    assert apart(flat(gradient(BPTT(Fixed(150)), field, params, batch)), exact) < 1e-9

    @jax.jit
    def estimates(beta):
        pair = [FieldEP(beta, SETTLED, SETTLED, corrected=kind) for kind in (True, False)]
        return [ep.value_and_grad(field)(params, batch, jax.random.key(1))[1] for ep in pair]

    betas = np.array([4e-3, 2e-3, 1e-3])
    errors = np.array([[apart(flat(g), exact) for g in estimates(beta)] for beta in betas])
    assert errors[-1, 0] < 1e-4
    slope = np.polyfit(np.log(betas), np.log(errors[:, 0]), 1)[0]
    assert slope == pytest.approx(2, abs=0.1), errors
    assert errors[-1, 1] > 0.2 and errors[-1, 1] == pytest.approx(errors[0, 1], rel=0.01)


@pytest.mark.parametrize("name", NETS)
def test_with_equal_weights_it_is_the_models_own_energy(name):
    model, params, (x, targets) = problem(name)
    edges = {
        edge: {**own, "feedback": own["kernel"]} if "feedback" in own else own
        for edge, own in params["edges"].items()
    }
    field, tied = vector_field(model), NETS[name]().energy()
    params = {**params, "edges": edges}
    states = states_of(model, BATCH)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), states)
    ends = []
    for system in (field, tied):
        free = free_objective(system, params, x)
        nudged = free.anchored(states).nudged(targets, jnp.asarray([0.5, -0.5]))
        sweeps = [Sweep.over(o, s, "alternating") for o, s in ((free, states), (nudged, both))]
        ends.append((sweeps[0](states), sweeps[1](both), [sweep.moves for sweep in sweeps]))
    assert_trees_all_close(*ends, rtol=1e-10, atol=1e-12)
    parted, together = (
        gradient(Implicit(SETTLED, tol=1e-13), system, params, (x, targets))
        for system in (field, tied)
    )
    summed = {
        edge: {"kernel": own["kernel"] + own.get("feedback", 0.0)}
        for edge, own in parted["edges"].items()
        if own
    }
    expected = {edge: {"kernel": own["kernel"]} for edge, own in together["edges"].items() if own}
    assert_trees_all_close(summed, expected, rtol=1e-8, atol=1e-10)


def test_the_drive_down_is_the_transpose_of_the_coupling_with_the_feedback_kernel():
    model, params, (x, _) = problem("max pool")
    states = states_of(model, BATCH)
    field = vector_field(model)
    found = field.arguments(*field.prepare(params, x), states)
    edge = next(edge for edge in model.network.edges if edge.name == "fc1")
    assert isinstance(edge.coupling, Untied)
    below = states["conv2"].reshape(BATCH, -1)
    own = params["edges"]["fc1"]
    np.testing.assert_allclose(found["fc1"], below @ own["kernel"] + own["bias"], rtol=1e-12)

    coupling = next(edge.coupling.coupling for edge in model.network.edges if edge.name == "conv2")
    down = (states["fc1"] @ own["feedback"].T).reshape(states["conv2"].shape)
    own = params["edges"]["conv2"]
    operators = coupling.prepare({"kernel": own["kernel"], "bias": own["bias"]})
    up = coupling.apply(operators, states["conv1"])
    np.testing.assert_allclose(found["conv2"], up + down, rtol=1e-12)


def test_the_pool_sends_feedback_to_the_places_of_its_maxima():
    model = untied(nets.vgg("2 3 M", (4,), (4, 4, 1), CLASSES))
    params, x, states = params_of(model), inputs_of(model, BATCH), states_of(model, BATCH)
    field = vector_field(model)
    own = params["edges"]["conv2"]
    names = ("NHWC", "HWIO", "NHWC")

    def correlate(kernel, lower):
        return jax.lax.conv_general_dilated(lower, kernel, (1, 1), "SAME", dimension_numbers=names)

    drive = correlate(own["kernel"], states["conv1"])
    tops = np.zeros(drive.shape)
    for n, i, j, c in np.ndindex(*states["conv2"].shape):
        window = np.asarray(drive[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c])
        a, b = np.unravel_index(window.argmax(), (2, 2))
        tops[n, 2 * i + a, 2 * j + b, c] = states["conv2"][n, i, j, c]
    transpose = jax.linear_transpose(lambda s: correlate(own["feedback"], s), states["conv1"])
    first = params["edges"]["conv1"]
    expected = correlate(first["kernel"], x) + first["bias"] + transpose(jnp.asarray(tops))[0]
    found = field.arguments(*field.prepare(params, x), states)["conv1"]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_penalty_is_jacobian_homeostasis_of_dense_layers_and_part_of_the_loss():
    model = untied(nets.mlp((5, 4), (6,), CLASSES, activation=jnp.tanh))
    params, x, states = params_of(model), inputs_of(model, 1), states_of(model, 1)
    field, names = vector_field(model, alignment=2.0), sorted(states)
    sizes = np.cumsum([states[name].size for name in names])[:-1]

    def drive(numbers):
        parts = dict(zip(names, jnp.split(numbers[None], sizes, -1), strict=True))
        found = field.arguments(*field.prepare(params, x), parts)
        return jnp.concatenate([found[name][0] for name in names])

    numbers = jnp.concatenate([states[name][0] for name in names])
    dense = jax.jacobian(drive)(numbers)
    targets = nets.Targets(jnp.zeros(1, jnp.int32))
    penalty = field.loss(params, states, targets) - model.loss(params, states, targets)
    np.testing.assert_allclose(penalty, 0.5 * jnp.sum((dense - dense.T) ** 2), rtol=1e-10)


def test_only_edges_between_layers_have_feedback_and_rates_and_names_stay():
    tied, model = residual(), untied(residual())
    shapes = jax.eval_shape(model.init_params, jax.random.key(0))["edges"]
    before = jax.eval_shape(tied.init_params, jax.random.key(0))["edges"]
    with_feedback = {name for name, own in shapes.items() if "feedback" in own}
    assert with_feedback == set(before) - {"res1_a", "res1_skip"}
    assert all(
        shapes[name]["feedback"].shape == before[name]["kernel"].shape for name in with_feedback
    )
    assert model.weight_names == tied.weight_names
    params = model.init_params(jax.random.key(0))
    assert model.weight_labels(params)["edges"]["res1_b"]["feedback"] == "res1_b"
    own = params["edges"]["res1_b"]
    assert_trees_all_close(
        own["kernel"], tied.init_params(jax.random.key(0))["edges"]["res1_b"]["kernel"]
    )
    assert abs(np.corrcoef(np.ravel(own["kernel"]), np.ravel(own["feedback"]))[0, 1]) < 0.5
    assert untied(model) == model


def test_what_it_cannot_do_is_one_sentence():
    model, params, (x, _) = problem("max pool")
    for wrong in (-0.1, "much", float("nan")):
        with pytest.raises(ValueError, match="alignment = .*must be a number of at least 0"):
            vector_field(model, wrong)
    with pytest.raises(ValueError, match="has no Φ: use vector_field"):
        free_objective(model.energy(), params, x).value(states_of(model, BATCH))
