"""Φ of any graph is the sum by hand; what is kept of pools changes no number; misfits are told."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close
from jax import lax

from jaxep import EP, Tolerance, equilibrium, relu
from jaxep.core import blocks
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.nets import (
    Conv,
    Dense,
    Edge,
    Identity,
    Input,
    Layer,
    Model,
    Network,
    Targets,
    hopfield,
    output,
    readout,
    resnet,
    vgg,
)
from tests.draws import inputs_of, params_of, states_of

MAP, IMAGE = (3, 3, 4), (6, 6, 2)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def every_kind():
    """Two inputs, skips, an identity edge, max and average pools, strides, biases of layers."""
    edges = (
        Edge("image", "a", Conv(IMAGE, 3)),
        Edge("a", "b", Conv((6, 6, 3), 4, pool="max")),
        Edge("a", "c", Conv((6, 6, 3), 4, pool="average", use_bias=False), "a_c"),
        Edge("b", "c", Identity(MAP), "skip"),
        Edge("image", "c", Conv(IMAGE, 4, 1, 2, 0, use_bias=False), "image_c"),
        Edge("c", "d", Dense(MAP, 6)),
        Edge("context", "d", Dense((5,), 6, use_bias=False), "context_d"),
        Edge("a", "d", Dense((6, 6, 3), 6, use_bias=False), "a_d"),
    )
    layers = (
        Layer("a", (6, 6, 3)),
        Layer("b", MAP, bias=True),
        Layer("c", MAP, relu),
        Layer("d", (6,), bias=True),
    )
    inputs = (Input("image", IMAGE), Input("context", (5,)))
    return Model(Network(inputs, layers, edges), (output("d"),))


def conv(x, kernel, stride, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=numbers
    )


def pool(x, kind):
    start, step = (-jnp.inf, lax.max) if kind == "max" else (0.0, lax.add)
    found = lax.reduce_window(x, start, step, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return found if kind == "max" else found / 4


def by_hand(params, x, s):
    """Φ of `every_kind`, one value for each sample."""
    edges, layers = params["edges"], params["layers"]

    def inner(upper, drive):
        return jnp.einsum("bi,bi->b", upper.reshape(len(upper), -1), drive.reshape(len(upper), -1))

    flat = {name: leaf.reshape(len(leaf), -1) for name, leaf in s.items()}
    image = conv(x["image"], edges["a"]["kernel"], 1, 1) + edges["a"]["bias"]
    up = conv(s["a"], edges["b"]["kernel"], 1, 1) + edges["b"]["bias"]
    beside = pool(conv(s["a"], edges["a_c"]["kernel"], 1, 1), "average")
    dense = flat["c"] @ edges["d"]["kernel"] + edges["d"]["bias"]
    dense = dense + x["context"] @ edges["context_d"]["kernel"]
    return (
        inner(s["a"], image)
        + inner(s["b"], pool(up, "max"))
        + inner(s["b"], jnp.broadcast_to(layers["b"]["bias"], s["b"].shape))
        + inner(s["c"], beside + s["b"] + conv(x["image"], edges["image_c"]["kernel"], 2, 0))
        + inner(s["d"], dense + flat["a"] @ edges["a_d"]["kernel"] + layers["d"]["bias"])
    )


def test_phi_is_the_sum_by_hand_with_all_its_derivatives():
    net = every_kind()
    args = params_of(net), inputs_of(net, 3), states_of(net, 3)
    network = net.network

    def fast(params, x, states):
        return network.phi_and_cache(*network.prepare(params, x), states, [None] * 4)[0]

    def with_slopes(phi):
        def total(params, x, states):
            found = phi(params, x, states)
            return found.sum(), found

        (_, found), slopes = jax.jit(jax.value_and_grad(total, (0, 2), has_aux=True))(*args)
        return found, slopes

    expected = with_slopes(by_hand)
    for phi in (network.phi, fast):
        assert_trees_all_close(with_slopes(phi), expected, rtol=1e-10, atol=1e-12)
    assert network.fast_phi.phi == network.phi


def test_parameters_are_named_by_edges_and_layers_and_shapes_follow():
    net = every_kind()
    params = jax.eval_shape(net.init_params, jax.random.key(0))
    assert set(params["edges"]) == {"a", "b", "a_c", "image_c", "d", "context_d", "a_d"}
    assert {name: own["bias"].shape for name, own in params["layers"].items()} == {
        "b": (4,),
        "d": (6,),
    }
    assert net.network.shapes == {"a": (6, 6, 3), "b": MAP, "c": MAP, "d": (6,)}
    assert net.network.layer_names == ("a", "b", "c", "d")
    assert net.network.blocks == {"a": 0, "b": 1, "c": 2, "d": 1}


def skip_over_pools():
    """A triangle, all of whose edges end in max pools: three colours."""
    edges = (
        Edge("image", "a", Conv((16, 16, 3), 8)),
        Edge("a", "b", Conv((16, 16, 8), 8, pool="max")),
        Edge("b", "c", Conv((8, 8, 8), 8, pool="max")),
        Edge("a", "c", Conv((16, 16, 8), 8, stride=2, pool="max", use_bias=False), "skip"),
        Edge("c", "d", Dense((4, 4, 8), 5)),
    )
    shapes = {"a": (16, 16, 8), "b": (8, 8, 8), "c": (4, 4, 8), "d": (5,)}
    layers = tuple(Layer(*pair) for pair in shapes.items())
    return Model(Network((Input("image", (16, 16, 3)),), layers, edges), (readout("d", (5,), 3),))


def test_a_sweep_of_three_colours_with_pools_costs_what_a_synchronous_one_does():
    net = skip_over_pools()
    assert len(set(net.network.blocks.values())) == 3
    params, x, states = params_of(net, gain=2.0), inputs_of(net, 2), states_of(net, 2)
    model = net.energy()
    plain = dataclasses.replace(model, phi=net.network.phi)  # keeps nothing
    objectives = [free_objective(energy, params, x) for energy in (model, plain)]
    sweep, textbook = (Sweep.over(o, states, "alternating", 1.5) for o in objectives)
    step, forget = jax.jit(sweep.step), jax.jit(textbook)
    position, expected = jax.jit(sweep.begin)(states), states
    for _ in range(4):
        position, expected = step(position), forget(expected)
    assert_trees_all_close(position.states, expected, atol=1e-12)

    def flops(function, *arguments):
        return function.lower(*arguments).compile().cost_analysis()["flops"]

    both = flops(jax.jit(Sweep.over(objectives[0], states, "synchronous")), states)
    assert flops(step, position) < 1.05 * both < flops(forget, states)


X = (Input("x", (2,)),)


def made_of(*edges, layers=(("a", (4,)), ("b", (3,))), inputs=X):
    return lambda: Network(inputs, tuple(Layer(*layer) for layer in layers), edges)


LOW, HIGH = Edge("x", "a", Dense((2,), 4)), Edge("a", "b", Dense((4,), 3))
MISFITS = {
    "unknown lower": (
        made_of(LOW, Edge("aa", "b", Dense((4,), 3))),
        "edge b",
        "no layer aa",
        "x, a",
    ),
    "unknown upper": (made_of(LOW, Edge("a", "c", Dense((4,), 3))), "edge c", "no layer c"),
    "layer twice": (
        made_of(LOW, HIGH, layers=(("a", (4,)), ("a", (3,)))),
        "'a'",
        "name of its own",
    ),
    "layer and input": (made_of(LOW, HIGH, layers=(("a", (4,)), ("x", (3,)))), "'x'"),
    "edge twice": (made_of(LOW, HIGH, Edge("x", "b", Dense((2,), 3))), "edge 'b'", "of its own"),
    "no name": (made_of(LOW, layers=(("a", (4,)), ("", (3,)))), "''"),
    "lower shape": (made_of(LOW, Edge("a", "b", Dense((5,), 3))), "edge b", "(5,)", "a is (4,)"),
    "upper shape": (made_of(LOW, Edge("a", "b", Dense((4,), 2))), "edge b", "(2,)", "b (3,)"),
    "into an input": (made_of(LOW, HIGH, Edge("a", "x", Dense((4,), 2))), "edge x", "not possible"),
    "to itself": (
        made_of(LOW, HIGH, Edge("a", "a", Identity((4,)), "s")),
        "edge s",
        "not possible",
    ),
    "loose layer": (made_of(LOW), "layer b", "no edge"),
    "loose input": (made_of(LOW, HIGH, inputs=(Input("x", (2,)), Input("y", (2,)))), "y: no edge"),
    "no layers": (lambda: Network((Input("x", (2,)),), (), ()), "no edge"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_parts_that_make_no_network_are_refused_by_name(what):
    build, *words = MISFITS[what]
    with pytest.raises(ValueError) as caught:
        build()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_x_and_states_that_do_not_fit_are_refused_by_name():
    net = every_kind()
    params, x, states = params_of(net), inputs_of(net, 2), states_of(net, 2)
    alone = vgg("3", (4,), IMAGE, 3)
    own, pixels, low = params_of(alone), inputs_of(alone, 2), states_of(alone, 2)
    wrong = [
        (net, params, {**x, "image": x["image"][:, :5]}, states, "x: image is [2, 5, 6, 2]"),
        (net, params, {"image": x["image"]}, states, "x: must be a dict of image, context"),
        (net, params, x["image"], states, "x: must be a dict of image, context"),
        (net, params, x, {**states, "b": states["d"]}, "states: b is [2, 6], must be [batch, 3"),
        (net, params, x, {"a": states["a"]}, "states: must be a dict of a, b, c, d"),
        (net, params, x, tuple(states.values()), "states: must be a dict of a, b, c, d"),
        (alone, own, pixels[0], low, "x: image is [6, 6, 2], must be [batch, 6, 6, 2]"),
        (alone, own, pixels.reshape(2, -1), low, "x: image is [2, 72]"),
        (alone, own, {"image": pixels, "more": pixels}, low, "x: must be one array"),
        (alone, own, (pixels * 255).astype(jnp.uint8), low, "x: image is uint8", "floating"),
        (alone, own, pixels, {**low, "fc1": low["fc1"][0]}, "states: fc1 is [4], must be [batch"),
    ]
    for model, weights, inputs, at, *words in wrong:
        with pytest.raises(ValueError) as caught:
            model.network.phi(weights, inputs, at)
        assert all(word in str(caught.value) for word in words), caught.value
        with pytest.raises(ValueError):
            equilibrium(model.energy(), 2, weights, inputs, start=at)


def mixed_derivatives(value, states):
    """Which pairs of leaves have a mixed second derivative, by a dense Hessian."""
    leaves, tree = jax.tree.flatten(states)
    hessian = jax.jit(jax.hessian(lambda some: value(jax.tree.unflatten(tree, some))))(leaves)
    pairs = itertools.permutations(range(len(leaves)), 2)
    return {(i, j) for i, j in pairs if np.any(hessian[i][j])}


def test_the_graph_of_a_pooled_net_is_that_of_its_hessian():
    net = vgg("3 M 2 M 2", (3, 2), (6, 6, 1), 3, output="neurons")
    params, x, states = params_of(net, gain=3.0), inputs_of(net, 1), states_of(net, 1)
    objective = free_objective(net.energy(), params, x)
    joined, driven = objective.graph(states)
    found = {(i, j) for i, others in enumerate(joined) for j in others}
    assert found == mixed_derivatives(objective.value, states)
    assert [bool(inputs) for inputs in driven] == [name == "conv1" for name in sorted(states)]


@pytest.mark.parametrize(
    "net",
    [
        vgg("3 M 2 M 2", (3, 2), (8, 8, 1), 3),
        vgg("3 A 2 R2 2s2 R2s1", (3,), (8, 8, 1), 3, output="neurons"),
        vgg(" ".join(["2"] * 12), (), (2, 2, 1), 3),  # conv10 sorts before conv2
        resnet((2, 2, 3), (8, 8, 1), 3),
        hopfield((4, 3, 2), (5,), 3),
        skip_over_pools(),
        every_kind(),
    ],
    ids=["vgg", "mixed", "deep", "resnet", "hopfield", "triangle", "every kind"],
)
def test_a_networks_own_blocks_are_what_its_phi_gives(net):
    states, own = states_of(net, 2), net.network.blocks
    objective = free_objective(net.energy(), params_of(net), inputs_of(net, 2))
    joined, driven = objective.graph(states)
    names = sorted(states)
    found = {(names[i], names[j]) for i, others in enumerate(joined) for j in others}
    ends = {(e.lower, e.upper) for e in net.network.edges if e.lower in own}
    assert found == ends | {(upper, lower) for lower, upper in ends}
    assert all(own[lower] != own[upper] for lower, upper in ends)
    numbers = blocks.of_leaves(None, joined, driven, states)
    assert max(numbers) == max(own.values())
    if max(numbers) == 1:  # which of three colours is which depends on the order of the layers
        assert dict(zip(names, numbers, strict=True)) == own


def test_moving_both_ends_of_a_skip_at_once_is_refused():
    """As the public Hopfield-ResNet code does; the guarantee that E falls would be lost."""
    net = resnet((2, 2), (4, 4, 1), 3)
    parity = {name: place % 2 for place, name in enumerate(net.network.layer_names)}
    energy = dataclasses.replace(net.energy(), blocks=parity)
    estimate = EP(0.1, Tolerance(3, "alternating"), 3).value_and_grad(energy)
    batch = inputs_of(net, 1), Targets(jnp.zeros(1, int))
    with pytest.raises(ValueError, match="res1_b and res2_b interact in Φ and are both in block 1"):
        estimate(params_of(net), batch, jax.random.key(0))
