"""A model's parameters, starts, names and labels; and the numbers that its chains have had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close
from jax import lax

from jaxep import Fixed, equilibrium, initial_states
from jaxep.nets import (
    Dense,
    Edge,
    Head,
    Input,
    Layer,
    Model,
    Network,
    Targets,
    local_errors,
    mlp,
    output,
    readout,
    resnet,
    vgg,
)
from tests.draws import params_of, states_of

CONV, HIDDEN, CLASSES, IMAGE = "5 M 6", (7,), 3, (6, 6, 2)


def drawn_by_hand(key, gain):
    """Kernels and biases of vgg("5 M 6", (7,)): a key for each weight, halves for its two parts."""
    network_key, _ = jax.random.split(key)
    shapes = [(3, 3, 2, 5), (3, 3, 5, 6), (3 * 3 * 6, 7), (7, CLASSES)]
    weights = []
    for own, shape in zip(jax.random.split(network_key, 4), shapes, strict=True):
        kernel_key, bias_key = jax.random.split(own)
        bound = gain / np.sqrt(np.prod(shape[:-1]))
        kernel = jax.random.uniform(kernel_key, shape, jnp.float32, -bound, bound)
        bias = jax.random.uniform(bias_key, shape[-1:], jnp.float32, -bound, bound)
        weights.append((kernel, bias))
    return weights


def phi_by_hand(weights, x, states):
    """Eq. 1 of that net in the backend's own convolution and `reduce_window`."""

    def conv(lower, kernel, bias):
        numbers = ("NHWC", "HWIO", "NHWC")
        found = lax.conv_general_dilated(
            lower, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=numbers
        )
        return found + bias

    window = (1, 2, 2, 1)
    first = lax.reduce_window(conv(x, *weights[0]), -jnp.inf, lax.max, window, window, "VALID")
    second = conv(states[0], *weights[1])
    third = states[1].reshape(len(x), -1) @ weights[2][0] + weights[2][1]
    return sum(jnp.sum(s * d) for s, d in zip(states, (first, second, third), strict=True))


@pytest.mark.parametrize("order", ["synchronous", "alternating"])
def test_initial_parameters_and_settled_states_of_a_chain_are_those_it_always_had(order):
    """Checkpoints and numbers of runs stay: the draws as documented, the dynamics by hand."""
    key, gain = jax.random.key(3), 2.0
    model = vgg(CONV, HIDDEN, IMAGE, CLASSES, gain=gain)
    params, weights = model.init_params(key), drawn_by_hand(key, gain)
    names = ["conv1", "conv2", "fc1"]
    for name, (kernel, bias) in zip(names, weights, strict=False):
        expected = {"kernel": kernel, "bias": bias}
        assert_trees_all_close(params["edges"][name], expected, rtol=0, atol=0)
    expected = {"kernel": weights[3][0], "bias": weights[3][1]}
    assert_trees_all_close(params["heads"]["readout"], expected, rtol=0, atol=0)

    x = jax.random.normal(jax.random.key(4), (4, *IMAGE))
    states = [jnp.zeros((4, *model.network.shapes[name])) for name in names]
    moves = [(0, 1, 2)] if order == "synchronous" else [(0, 2), (1,)]

    @jax.jit
    def sweep(states):
        for moving in moves:
            slopes = jax.grad(phi_by_hand, 2)(weights, x, states)
            pairs = enumerate(zip(slopes, states, strict=True))
            states = [jnp.clip(new, 0, 1) if i in moving else old for i, (new, old) in pairs]
        return states

    for _ in range(40):
        states = sweep(states)
    settled = jax.jit(lambda x: equilibrium(model.energy(), Fixed(40, order), params, x).states)(x)
    assert_trees_all_close(settled, dict(zip(names, states, strict=True)), atol=1e-6)
    assert all(0.05 < float(s.mean()) < 0.95 for s in states)
    logits = states[2] @ weights[3][0] + weights[3][1]
    assert_trees_all_close(model.outputs(params, settled), logits, atol=1e-5)


def test_more_heads_leave_the_draws_of_the_others():
    model = vgg(CONV, HIDDEN, IMAGE, CLASSES)
    more = model.with_heads(*local_errors(model.network, ["conv1", "fc1"], CLASSES))
    plain, params = (m.init_params(jax.random.key(0)) for m in (model, more))
    assert set(params["heads"]) == {"readout", "le_conv1", "le_fc1"}
    del params["heads"]["le_conv1"], params["heads"]["le_fc1"]
    assert_trees_all_close(params, plain, rtol=0, atol=0)


def test_biases_of_layers_start_at_0():
    edge = Edge("x", "a", Dense((2,), 4, use_bias=False))
    network = Network((Input("x", (2,)),), (Layer("a", (4,), bias=True),), (edge,))
    params = Model(network, (readout("a", (4,), 3),)).init_params(jax.random.key(0))
    assert set(params["edges"]["a"]) == {"kernel"}
    assert_trees_all_close(params["layers"], {"a": {"bias": jnp.zeros(4)}})


def test_initial_states_are_zeros_or_uniform():
    model = vgg("8 M 16 M 32 M 32v M", (), (32, 32, 3), 10)
    x = jnp.ones((2, 32, 32, 3))
    zeros, uniform = (
        initial_states(model.energy(kind), jax.random.key(0), None, x)
        for kind in ("zeros", "uniform")
    )
    assert {name: z.shape[1:] for name, z in zeros.items()} == model.network.shapes
    assert not any(jnp.any(z) for z in zeros.values())
    for u in uniform.values():
        assert 0 <= u.min() < 0.1 < 0.9 < u.max() < 1
    with pytest.raises(ValueError, match="init_states = 'ones': must be one of zeros, uniform"):
        model.energy("ones")
    with pytest.raises(ValueError, match="init_states = 'uniform': needs a random key"):
        initial_states(model.energy("uniform"), None, None, x)


def test_uniform_states_do_not_depend_on_how_a_batch_is_cut():
    model = mlp((5, 4), (3,), CLASSES).energy("uniform")
    start = jax.jit(initial_states, static_argnums=0)
    keys, x = jax.random.split(jax.random.key(0), 8), jnp.ones((8, 3))
    whole = start(model, keys, None, x)
    for size in (1, 4):
        cuts = [slice(i, i + size) for i in range(0, 8, size)]
        parts = [start(model, keys[cut], None, x[cut]) for cut in cuts]
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        assert_trees_all_close(joined, whole, rtol=0, atol=0)
    assert len(np.unique(whole["fc1"])) == whole["fc1"].size


def labelled(model):
    params = jax.eval_shape(model.init_params, jax.random.key(0))
    labels = model.weight_labels(params)
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert set(jax.tree.leaves(labels)) <= set(model.weight_names)
    return labels


def test_every_parameter_has_the_name_of_a_weight():
    model = vgg("4 M R5", (6,), (8, 8, 2), 3)
    model = model.with_heads(*local_errors(model.network, ["conv1", "res1_b", "fc1"], 3))
    assert model.weight_names == ("conv1", "res1_a", "res1_b", "res1_skip", "fc1", "readout")
    labels = labelled(model)
    for name in ("conv1", "res1_a", "res1_b", "res1_skip", "fc1"):
        assert set(labels["edges"][name].values()) == {name}
    assert labels["heads"] == {
        "readout": {"kernel": "readout", "bias": "readout"},
        "le_conv1": {"kernel": "conv1"},
        "le_res1_b": {"kernel": "res1_b"},
        "le_fc1": {"kernel": "fc1"},
    }


def test_a_layers_bias_has_the_name_of_the_first_weight_into_it():
    edges = (
        Edge("x", "a", Dense((2,), 4), "low"),
        Edge("x", "b", Dense((2,), 3), "skip"),
        Edge("a", "b", Dense((4,), 3), "up"),
    )
    layers = (Layer("a", (4,), bias=True), Layer("b", (3,), bias=True))
    model = Model(Network((Input("x", (2,)),), layers, edges), (output("b"),))
    assert model.weight_names == ("low", "skip", "up")
    assert labelled(model)["layers"] == {"a": {"bias": "low"}, "b": {"bias": "skip"}}


@pytest.mark.parametrize(
    "model",
    [mlp((4, 3), (5,), 3), mlp((4,), (5,), 3, output="readout"), resnet((2, 3), (4, 4, 1), 3)],
    ids=["neurons", "readout", "resnet"],
)
def test_outputs_and_their_loss(model):
    params, states = params_of(model, dtype="float32"), states_of(model, 2, dtype="float32")
    labels = Targets(jnp.asarray([2, 0]))
    outputs = model.outputs(params, states)
    assert outputs.shape == (2, 3)
    if model.heads[0].name == "readout":
        own = params["heads"]["readout"]
        assert_trees_all_close(outputs, states["fc1"] @ own["kernel"] + own["bias"], rtol=1e-6)
        expected = -jax.nn.log_softmax(outputs)[jnp.arange(2), labels.labels]
    else:
        assert outputs is states["output"]
        expected = 0.5 * ((outputs - np.eye(3)[[2, 0]]) ** 2).sum(-1)
    assert_trees_all_close(model.output_loss(params, states, labels), expected, rtol=1e-5)
    assert_trees_all_close(model.loss(params, states, labels), expected, rtol=1e-5)


def test_heads_that_make_no_model_are_refused_by_name():
    model = mlp((4,), (5,), 3)
    pull = Head("pull", "fc1", lambda outputs, target: outputs.sum(-1))
    for make, words in (
        (lambda: Model(model.network, ()), "a model needs a head"),
        (
            lambda: model.with_heads(Head("up", "fc9", pull.loss)),
            "head up: there is no layer fc9 in",
        ),
        (lambda: model.with_heads(pull, pull), "head pull: .*name of its own"),
        (lambda: model.with_heads(output("fc1")), "head output: .*name of its own"),
        (
            lambda: Model(model.network, (readout("fc1", (9,), 3),)),
            r"head readout: .*\(9,\).*\(4,\)",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make()
