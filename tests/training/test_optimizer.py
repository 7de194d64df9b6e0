"""Optimizers with one rate for each weight, against their rules written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.training.optimizer import apply, by_weight, rate_schedule, update_rule

PARAMS = {
    "edges": {"conv1": {"kernel": jnp.asarray([1.0])}, "fc1": {"kernel": jnp.asarray([2.0])}},
    "heads": {"readout": {"kernel": jnp.asarray([3.0])}, "le_fc1": {"kernel": jnp.asarray([4.0])}},
}
LABELS = {
    "edges": {"conv1": {"kernel": "conv1"}, "fc1": {"kernel": "fc1"}},
    "heads": {"readout": {"kernel": "readout"}, "le_fc1": {"kernel": "fc1"}},
}
RATES = {"conv1": 0.1, "fc1": 0.2, "readout": 0.3}
STEPS = 100


def optimizer(kind, schedule="cosine", momentum=0.9, nesterov=False, decay=0.01):
    schedules = {name: rate_schedule(schedule, rate, STEPS) for name, rate in RATES.items()}
    rule = update_rule(kind, momentum, nesterov, decay)
    return by_weight(rule, schedules, lambda params: LABELS)


def gradient(w):
    return 0.5 * w + 1


def trained(optimizer, steps=5):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        params, state = apply(optimizer, jax.tree.map(gradient, params), state, params)
    return params


def by_hand(rule, steps=5):
    """One number after the other; rule: (number, its memory, step from 1) -> (change, memory)."""

    def one(w, name):
        w, memory = float(w[0]), (0.0, 0.0)
        for step in range(1, steps + 1):
            change, memory = rule(w, memory, step)
            w -= RATES[name] * 0.5 * (1 + np.cos(np.pi * (step - 1) / STEPS)) * change
        return np.asarray([w])

    return jax.tree.map(one, PARAMS, LABELS)


def sgd(w, memory, step):
    velocity = 0.9 * memory[0] + gradient(w) + 0.01 * w
    return velocity, (velocity, 0.0)


def nesterov(w, memory, step):
    grad = gradient(w) + 0.01 * w
    velocity = 0.9 * memory[0] + grad
    return grad + 0.9 * velocity, (velocity, 0.0)


def _adam(grad, memory, step):
    first = 0.9 * memory[0] + 0.1 * grad
    second = 0.999 * memory[1] + 0.001 * grad**2
    change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return change, (first, second)


def adam(w, memory, step):
    return _adam(gradient(w) + 0.01 * w, memory, step)


def adamw(w, memory, step):
    change, memory = _adam(gradient(w), memory, step)
    return change + 0.01 * w, memory


@pytest.mark.parametrize("rule", [sgd, nesterov, adam, adamw])
def test_updates_are_those_of_the_rule_with_the_rate_of_their_weight(rule):
    kind = "sgd" if rule is nesterov else rule.__name__
    got = trained(optimizer(kind, nesterov=rule is nesterov))
    for mine, hand in zip(jax.tree.leaves(got), jax.tree.leaves(by_hand(rule)), strict=True):
        np.testing.assert_allclose(mine, hand, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_nesterov_is_heard_by_all_kinds(kind):
    plain, ahead = (trained(optimizer(kind, nesterov=flag)) for flag in (False, True))
    assert (
        abs(float((plain["edges"]["conv1"]["kernel"] - ahead["edges"]["conv1"]["kernel"])[0]))
        > 1e-4
    )


def test_constant_rates_stay():
    constant = optimizer("sgd", "constant", momentum=0.0, decay=0.0)
    state = constant.init(PARAMS)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(5):
        updates, state = constant.update(ones, state, PARAMS)
    np.testing.assert_allclose(updates["heads"]["readout"]["kernel"], [-0.3], rtol=1e-6)
    np.testing.assert_allclose(updates["heads"]["le_fc1"]["kernel"], [-0.2], rtol=1e-6)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="must be one of sgd, adam, adamw"):
        update_rule("lion", 0.9, False, 0.0)
