"""What a vector field cannot do is one sentence."""

import jax
import jax.numpy as jnp
import pytest

from jaxep import (
    EP,
    ContextualActivation,
    Energy,
    FieldEP,
    VectorField,
    energy_per_sample,
    hard_sigmoid,
    holomorphic,
)
from jaxep.core.objective import free_objective
from tests.core.test_fields import field, loss, model, problem, zeros


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def short_of_a_leaf(w, x, states):
    return {"u": states["u"]}


def of_another_shape(w, x, states):
    return {"u": states["u"][:, :1], "v": states["v"]}


def modulus(w, x, states):
    return {"u": jnp.abs(states["u"]), "v": states["v"]}


CONTEXT = ContextualActivation(lambda argument, w, x, states: argument)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda run: VectorField(lambda w: w, loss, zeros), "field takes .* must take"),
        (lambda run: VectorField(field, loss, zeros, prepare=3), "prepare = 3: must be a function"),
        (lambda run: run(EP(0.1, 3, 3), model(field=short_of_a_leaf)), "field returns u .*, v "),
        (lambda run: run(EP(0.1, 3, 3), model(field=of_another_shape)), "must be like the states"),
        (lambda run: run(EP(0.1, 3, 3), model(CONTEXT)), "EP needs a σ of its argument alone"),
        (
            lambda run: run(FieldEP(0.1, 3, 3), Energy(lambda w, x, s: x, loss, zeros)),
            "FieldEP takes a VectorField, not a Energy",
        ),
        (lambda run: FieldEP(0.0, 3, 3), "beta = 0.0"),
        (
            lambda run: run(EP(0.1, 3, 3, holomorphic(4)), model(hard_sigmoid)),
            "hard_sigmoid.* stencil of complex points needs",
        ),
        (lambda run: run(EP(0.1, 3, 3, holomorphic(4)), model(field=modulus)), "field uses `abs`"),
        (lambda run: free_objective(model(), None, run.x).value(0), "has no Φ whose value"),
        (
            lambda run: energy_per_sample(model(), *run(None, None), zeros(None, None, run.x)),
            "a VectorField has no Φ: solvers, EP",
        ),
    ],
)
def test_what_it_cannot_do_is_one_sentence(refused, words):
    w, batch = problem()

    def run(estimator, system):
        if estimator is None:
            return w, batch[0]
        return estimator.value_and_grad(system)(w, batch, jax.random.key(0))

    run.x = batch[0]
    with pytest.raises(ValueError, match=words):
        refused(run)
