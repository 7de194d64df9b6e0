"""Event-driven phases: messages counted by hand, EP's gradient as their unit falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    EP,
    Energy,
    EventDriven,
    Fixed,
    Tolerance,
    equilibrium,
    hard_sigmoid,
    nets,
    one_sided,
)

CLASSES, BATCH = 3, 6


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def pair(activation=hard_sigmoid):
    """Two neurons, a = σ(x + 0.4 b) and b = σ(0.4 a), and one that is alone with the target."""

    def phi(params, x, states):
        return jnp.sum(states["a"] * x + 0.4 * states["a"] * states["b"], -1)

    def loss(params, states, targets):
        return 0.5 * jnp.sum(jnp.square(states["b"] - targets), -1)

    def zeros(key, params, x):
        return {"a": jnp.zeros_like(x), "b": jnp.zeros_like(x)}

    return Energy(phi, loss, zeros, activation), jnp.full((1, 1), 0.6)


def free(energy, solver, x):
    return equilibrium(energy, solver, {}, x)


# x = 0.6, q = 0.25. Alternating: a 0.6 sends 2 q, b 0.2 sends q, a 0.7 sends q, then all is still.
# Synchronous: a 0.6 sends 2 q, then b 0.2 sends q, then a 0.7 sends q, then b 0.3 sends nothing.
@pytest.mark.parametrize(
    ("order", "counts"),
    [("alternating", [2, 3, 3, 3]), ("synchronous", [1, 2, 3, 3])],
)
def test_the_messages_of_two_neurons_are_those_counted_by_hand(order, counts):
    energy, x = pair()
    told = [free(energy, EventDriven(n, order, 1.0, 0.25), x) for n in (1, 2, 3, 4)]
    assert [float(t.statistics["messages"]) * 2 for t in told] == counts
    assert_trees_all_close(told[-1].states, {"a": jnp.array([[0.7]]), "b": jnp.array([[0.3]])})
    assert int(told[-1].steps) == 4 and (float(told[-1].residual) < 1e-15) == (counts[0] == 2)


def test_a_neuron_feels_the_nudge_at_its_own_exact_state():
    """With a unit that nobody reaches b hears nothing and goes to β y/(1 + β), not to β y."""
    energy, x = pair()
    silent = EventDriven(400, "alternating", 1.0, 100.0)
    ep = EP(0.5, silent, silent, one_sided)
    aux = ep.value_and_grad(energy)({}, (x, jnp.ones((1, 1))), jax.random.key(0))[2]
    assert_trees_all_close(aux.nudged.states["b"], jnp.full((1, 1, 1), 0.5 / 1.5), rtol=1e-12)
    assert float(aux.free.statistics["messages"]) == float(aux.nudged.statistics["messages"]) == 0


def network(output="readout"):
    model = nets.mlp((8, 6), (5,), CLASSES, output=output)
    params = model.init_params(jax.random.key(0), jnp.float64)
    params["edges"] = {n: {**e, "bias": e["bias"] + 0.3} for n, e in params["edges"].items()}
    x = jax.random.uniform(jax.random.key(1), (BATCH, 5), jnp.float64)
    return model.energy(), params, (x, nets.Targets(jnp.arange(BATCH) % CLASSES))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def run(ep, system):
    energy, params, batch = system
    return ep.value_and_grad(energy)(params, batch, jax.random.key(0))


@pytest.mark.parametrize(
    ("output", "options"), [("readout", ("alternating", 1.2)), ("neurons", ("synchronous", 0.8))]
)
def test_the_gradient_goes_to_that_without_events_in_proportion_to_the_unit(output, options):
    system = network(output)
    plain = EP(0.5, Fixed(40, *options), Fixed(20, *options))
    exact = jax.jit(lambda: run(plain, system))()[1]

    @jax.jit
    def at(step):
        ep = EP(0.5, *(EventDriven(sweeps, *options, step) for sweeps in (40, 20)))
        _, grads, aux = run(ep, system)
        return grads, aux.free.statistics["messages"], aux.nudged.statistics["messages"]

    units = 2.0 ** -np.arange(3, 25, 2)
    told = [at(unit) for unit in units]
    errors = [np.linalg.norm(flat(g) - flat(exact)) / np.linalg.norm(flat(exact)) for g, *_ in told]
    assert errors[0] > 0.03 and errors[-1] < 1e-6
    assert np.polyfit(np.log(units), np.log(errors), 1)[0] == pytest.approx(1, abs=0.1), errors
    for messages in np.array([told[i][1:] for i in range(len(told))], float).T:
        assert np.all(np.diff(messages[:4]) > 0) and np.all(np.diff(messages) >= 0)
    assert told[0][1] < 4 and told[0][2] < 2  # of 40 and 20 without events


def test_nothing_is_sent_before_something_changes():
    energy, params, (x, _) = network()
    solver = EventDriven(60, "alternating", 1.0, 1 / 32)
    first = equilibrium(energy, solver, params, x)
    again = equilibrium(energy, solver, params, x, start=first.states)
    assert float(first.statistics["messages"]) > 1
    assert float(again.statistics["messages"]) == 0
    assert_trees_all_close(again.states, first.states)


def test_messages_tell_a_multiple_of_the_unit_and_leaves_see_no_more():
    """A layer is σ of what the rounded states of the others drive, by hand."""
    energy, params, (x, _) = network("neurons")
    unit = 1 / 16
    found = equilibrium(energy, EventDriven(60, "alternating", 1.0, unit), params, x).states
    heard = {name: unit * np.round(np.array(leaf) / unit) for name, leaf in found.items()}
    w, b = (np.array(params["edges"]["fc2"][name]) for name in ("kernel", "bias"))
    top = np.array(params["edges"]["output"]["kernel"])
    assert_trees_all_close(
        found["fc2"], np.clip(heard["fc1"] @ w + b + heard["output"] @ top.T, 0, 1), rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_states_keep_their_type_and_other_solvers_tell_nothing(dtype):
    with jax.enable_x64(False):
        model = nets.mlp((6,), (4,), CLASSES)
        params = model.init_params(jax.random.key(0), jnp.float32)
        x = jnp.linspace(0, 1, 8, dtype=jnp.float32).reshape(2, 4).astype(dtype)
        events = equilibrium(model.energy(), EventDriven(20, "alternating"), params, x)
        assert {leaf.dtype for leaf in events.states.values()} == {jnp.dtype(dtype)}
        assert tuple(events.statistics) == EventDriven.tells
        plain = equilibrium(model.energy(), Tolerance(20, "alternating"), params, x)
        assert plain.statistics == {} and Tolerance.tells == ()


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf"), float("nan"), "x"])
def test_a_unit_that_is_none_is_refused_in_one_sentence(step):
    with pytest.raises(ValueError, match="EventDriven: step = .*: must be a number over 0"):
        EventDriven(3, step=step)
