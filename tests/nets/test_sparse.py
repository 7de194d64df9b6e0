"""Random skips: what is joined, what stays 0, that sweeps settle and EP's limit is exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import EP, Implicit, Tolerance, energy_per_sample, nets
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.nets.sparse import Sparse

HIDDEN, SHAPE, CLASSES = (9, 8, 7, 6), (5,), 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def skipping(skips):
    return nets.hopfield(HIDDEN, SHAPE, CLASSES, skips=skips, gain=0.8, seed=3)


def problem(skips=0.4):
    model = skipping(skips)
    params = model.init_params(jax.random.key(0), jnp.float64)
    x = jax.random.uniform(jax.random.key(1), (4, *SHAPE), jnp.float64)
    return model, params, x, nets.Targets(jnp.arange(4) % CLASSES)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_a_share_of_the_pairs_is_joined_by_a_mask_of_the_seed_alone():
    mask = Sparse((300,), 200, True, 0.1, (1, 2)).mask
    assert abs(mask.mean() - 0.1) < 0.005 and set(np.unique(mask)) == {0, 1}
    assert np.any(mask != Sparse((300,), 200, True, 0.1, (1, 3)).mask)
    edges = {edge.name: edge.coupling for edge in skipping(0.4).network.edges}
    assert len(edges) == 15  # of 6 layers, the input among them, each with each
    sparse = {name for name, coupling in edges.items() if isinstance(coupling, Sparse)}
    assert sparse == {name for name in edges if "_" in name} and len(sparse) == 10


def test_what_is_not_joined_is_0_and_gets_no_gradient():
    model, params, x, targets = problem()
    ep = EP(0.1, 20, 10)
    grads = ep.value_and_grad(model.energy())(params, (x, targets), jax.random.key(0))[1]
    for edge in model.network.edges:
        if isinstance(edge.coupling, Sparse):
            absent = edge.coupling.mask == 0
            assert absent.any() and not absent.all()
            for tree in (params, grads):
                assert not np.any(np.asarray(tree["edges"][edge.name]["kernel"])[absent])
    assert any(np.any(g["kernel"]) for n, g in grads["edges"].items() if "_" in n)


def test_all_joined_is_the_hopfield_net():
    model, plain = skipping(1.0), nets.hopfield(HIDDEN, SHAPE, CLASSES, gain=0.8)
    assert model == plain


def test_no_two_layers_of_a_block_are_joined_and_energy_never_rises():
    model, params, x, _ = problem()
    blocks = model.network.blocks
    assert all(blocks[e.lower] != blocks[e.upper] for e in model.network.edges if e.lower in blocks)
    energy = model.energy("uniform")
    params = jax.tree.map(lambda w: 3 * w, params)
    states = energy.init_states(jax.random.key(2), params, x)
    sweep = jax.jit(Sweep.over(free_objective(energy, params, x), states, "alternating"))
    found = [energy_per_sample(energy, params, x, states)]
    for _ in range(30):
        states = sweep(states)
        found.append(energy_per_sample(energy, params, x, states))
    assert np.diff(found, axis=0).max() < 1e-12
    assert np.all(found[-1] < found[0] - 0.1)


def test_the_gradient_goes_to_the_exact_one_as_beta_squared():
    model, params, x, targets = problem()
    params = {**params, "edges": jax.tree.map(lambda w: w + 0.02, params["edges"])}
    energy, tight = model.energy(), Tolerance(3000, "alternating", tol=1e-14)
    given = params, (x, targets), jax.random.key(0)
    exact = flat(Implicit(tight, tol=1e-13).value_and_grad(energy)(*given)[1])
    betas = np.array([4e-3, 2e-3, 1e-3])
    estimate = jax.jit(lambda b: EP(b, tight, tight).value_and_grad(energy)(*given)[1])
    errors = [np.linalg.norm(flat(estimate(b)) - exact) / np.linalg.norm(exact) for b in betas]
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(2, abs=0.1), errors


@pytest.mark.parametrize("skips", [0.0, -1, 1.5, "all"])
def test_a_share_that_is_none_is_refused(skips):
    with pytest.raises(ValueError, match="skips"):
        nets.hopfield(HIDDEN, SHAPE, CLASSES, skips=skips)
    with pytest.raises(ValueError, match="Sparse: share"):
        Sparse((4,), 3, True, skips)
