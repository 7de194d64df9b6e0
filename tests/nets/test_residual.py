"""Hopfield-ResNet13 exactly (SPEC 10), and what its three colours give."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import (
    EP,
    FastPhi,
    Implicit,
    Tolerance,
    energy_per_sample,
    equilibrium,
    hard_sigmoid,
    relu6,
)
from jaxep.core.activations import linear
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.nets import Conv, Dense, Targets, resnet
from tests.draws import inputs_of, params_of, states_of

CHANNELS = (128, 256, 512, 512)


def test_hopfield_resnet13_has_its_weights_layers_and_shapes():
    model = resnet(CHANNELS, (32, 32, 3), 10)
    network = model.network
    sizes = {}
    for block, (channels, size) in enumerate(zip(CHANNELS, (32, 16, 8, 4), strict=True), start=1):
        sizes[f"res{block}_a"] = (size, size, channels)
        sizes[f"res{block}_b"] = (size // 2, size // 2, channels)
    assert network.shapes == {**sizes, "output": (10,)}
    assert len(network.layers) == 9 and len(network.edges) == 13 == len(model.weight_names)
    assert network.activations == {**dict.fromkeys(sizes, relu6), "output": linear}

    below, shape = "image", (32, 32, 3)
    edges = {edge.name: edge for edge in network.edges}
    for block, channels in enumerate(CHANNELS, start=1):
        a, b, skip = (edges[f"res{block}_{part}"] for part in ("a", "b", "skip"))
        names = f"res{block}_a", f"res{block}_b"
        assert [(e.lower, e.upper) for e in (a, b, skip)] == [
            (below, names[0]),
            names,
            (below, names[1]),
        ]
        assert a.coupling == Conv(shape, channels, 3, 1, 1)
        assert b.coupling == Conv((*shape[:2], channels), channels, 3, 2, 1)
        assert skip.coupling == Conv(shape, channels, 1, 2, 0, use_bias=False)
        below, shape = names[1], network.shapes[names[1]]
    assert edges["output"].coupling == Dense((2, 2, 512), 10)


def test_its_parameters_counted_by_hand():
    shapes = jax.eval_shape(resnet(CHANNELS, (32, 32, 3), 10).init_params, jax.random.key(0))
    pairs = list(zip((3, *CHANNELS), CHANNELS, strict=False))
    convs = sum(9 * low * up + up + 9 * up * up + up + low * up for low, up in pairs)
    expected = convs + 4 * 512 * 10 + 10
    assert expected == 9_742_858
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_its_three_colours_part_the_ends_of_every_edge():
    network = resnet(CHANNELS, (32, 32, 3), 10).network
    assert set(network.blocks.values()) == {0, 1, 2}
    for edge in network.edges:
        if edge.lower != "image":
            assert network.blocks[edge.lower] != network.blocks[edge.upper]


SMALL = resnet((3, 4), (8, 8, 2), 3)


def test_error_of_ep_falls_as_beta_squared():
    with jax.enable_x64(True):
        params, x = params_of(SMALL, gain=0.7), inputs_of(SMALL, 3)
        # Biases of 0.3 keep units off the corner of relu6 at 0, where Φ has no derivative.
        edges = {
            name: {**own, "bias": own["bias"] + 0.3} if "bias" in own else own
            for name, own in params["edges"].items()
        }
        params, batch = {**params, "edges": edges}, (x, Targets(jnp.asarray([0, 2, 1])))
        free = Tolerance(3000, "alternating", tol=1e-14)
        model = SMALL.energy()
        exact = jax.jit(Implicit(free, tol=1e-13).value_and_grad(model))
        _, exact, aux = exact(params, batch, jax.random.key(0))
        assert float(aux.free.residual) <= 1e-14

        @jax.jit
        def error(beta):
            _, found, _ = EP(beta, free, free).value_and_grad(model)(
                params, batch, jax.random.key(0)
            )
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
            return jnp.sqrt(sum(jnp.sum((a - b) ** 2) for a, b in pairs))

        sizes = np.array([8e-3, 4e-3, 2e-3])
        errors = [float(error(beta)) for beta in sizes]
        slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
        assert slope == pytest.approx(2, abs=0.1), errors


CLIPPED = resnet((3, 4), (8, 8, 2), 3, activation=hard_sigmoid, output_activation=hard_sigmoid)
MODEL = CLIPPED.energy("uniform")  # one object for all examples: one compilation


@functools.partial(jax.jit, static_argnums=(3, 4))
def energies(params, x, states, relaxation, model=MODEL):
    """E before and after each of 15 sweeps, [16, batch]."""
    step = Sweep.over(free_objective(model, params, x), states, "alternating", relaxation)

    def body(states, _):
        return step(states), energy_per_sample(model, params, x, states)

    return jax.lax.scan(body, states, length=16)[1]


@hypothesis.given(
    seed=st.integers(0, 2**31 - 1),
    gain=st.floats(0.1, 8.0),
    relaxation=st.sampled_from([0.5, 1.0, 1.7]),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_energy_never_rises_under_sweeps_of_three_colours(seed, gain, relaxation):
    with jax.enable_x64(True):
        drawn = params_of(CLIPPED, seed, gain), inputs_of(CLIPPED, 2, seed)
        found = energies(*drawn, states_of(CLIPPED, 2, seed), relaxation)
        assert jnp.diff(found, axis=0).max() <= 1e-10 * jnp.abs(found).max()


def test_energy_rises_where_all_layers_move_at_once():
    """So that the property above is one of the colours, and not of any sweep."""
    with jax.enable_x64(True):
        params, x = params_of(CLIPPED, 0, 6.0), inputs_of(CLIPPED, 2)
        states = states_of(CLIPPED, 2)
        step = jax.jit(Sweep.over(free_objective(MODEL, params, x), states, "synchronous"))
        found = []
        for _ in range(10):
            found.append(energy_per_sample(MODEL, params, x, states))
            states = step(states)
        assert jnp.diff(jnp.stack(found), axis=0).max() > 0.1


def test_a_sweep_of_three_colours_costs_what_a_synchronous_one_does():
    net = resnet((128, 256), (16, 16, 3), 10)
    fast = net.network.fast_phi

    def sweep_of(prepared, states, order):
        # The work that a loop does not repeat is done: it is an argument here.
        ready = FastPhi(fast.phi, lambda *prepared: prepared, fast.phi_and_cache)
        objective = free_objective(dataclasses.replace(net.energy(), phi=ready), *prepared)
        return Sweep.over(objective, states, order)

    params = jax.eval_shape(net.init_params, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    states = {n: jax.ShapeDtypeStruct((2, *s), jnp.float32) for n, s in net.network.shapes.items()}
    prepared = jax.eval_shape(fast.prepare, params, x)

    def flops(order):
        at = jax.eval_shape(lambda p, s: sweep_of(p, s, order).begin(s), prepared, states)
        step = jax.jit(lambda p, at: sweep_of(p, at.states, order).step(at))
        return step.lower(prepared, at).compile().cost_analysis()["flops"]

    assert flops("alternating") <= 1.05 * flops("synchronous")


def test_a_skip_settles_by_its_colours():
    """With both ends of the skips moved at once the same net keeps jumping."""
    with jax.enable_x64(True):
        params, x = params_of(CLIPPED, 1, 4.0), inputs_of(CLIPPED, 2, 1)
        solver = Tolerance(300, "alternating", tol=1e-8)
        coloured = equilibrium(MODEL, solver, params, x, start=states_of(CLIPPED, 2))
        assert float(coloured.residual) <= 1e-8
        every = {name: place for place, name in enumerate(CLIPPED.network.layer_names)}
        one_by_one = dataclasses.replace(MODEL, blocks=every)
        other = equilibrium(one_by_one, solver, params, x, start=states_of(CLIPPED, 2))
        assert float(other.residual) <= 1e-8
