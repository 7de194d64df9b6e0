"""The report of layers and weights (Fig. 5) against means by hand; no NaN for what is not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import BPTT, EP, Fixed, Implicit
from jaxep.nets import Targets, layer_report, local_errors, mlp, resnet, vgg
from jaxep.nets.diagnostics import report_rows
from tests.draws import inputs_of, params_of

MODELS = {
    "vgg": vgg("4 M 3", (5,), (4, 4, 1), 3),
    "neurons": vgg("4 M 3", (5,), (4, 4, 1), 3, output="neurons"),
    "resnet": resnet((2, 3), (4, 4, 1), 3),
    "identity": vgg("3 R3s1", (), (4, 4, 1), 3),
    "mlp": mlp((4,), (3,), 3, output="readout"),
}


def report(model, estimator):
    model = model.with_heads(*local_errors(model.network, model.network.layer_names[:1], 3))
    params, x = params_of(model, gain=2.0, dtype="float32"), inputs_of(model, 4, dtype="float32")
    batch = x, Targets(jnp.arange(4) % 3, 0.5)
    estimate = jax.jit(estimator.value_and_grad(model.energy()))
    _, grads, aux = estimate(params, batch, jax.random.key(0))
    return jax.jit(lambda grads, aux: layer_report(model, grads, aux))(grads, aux), grads, aux


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_means_by_hand_and_hold_only_what_exists(name):
    model = MODELS[name]
    with jax.debug_nans(True):
        rows, grads, aux = report(model, EP(0.3, Fixed(10), Fixed(5)))
    layers, weights = model.network.layer_names, model.weight_names
    assert set(rows) == set(report_rows(model)) == {*layers, *weights}
    free, nudged = aux.free.states, aux.nudged.states
    for row, columns in rows.items():
        wanted = {"gradient"} if row in weights else set()
        wanted |= {"activity", "displacement", "zeros", "ones"} if row in layers else set()
        assert set(columns) == wanted
        if row in layers:
            state = np.asarray(free[row])
            np.testing.assert_allclose(columns["activity"], np.abs(state).mean(), rtol=1e-5)
            moved = (np.asarray(nudged[row][0]) - state).reshape(4, -1)
            expected = np.linalg.norm(moved, axis=-1).mean()
            np.testing.assert_allclose(columns["displacement"], expected, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(columns["zeros"], (state == 0).mean(), rtol=1e-6)
            np.testing.assert_allclose(columns["ones"], (state == 1).mean(), rtol=1e-6)
        if row in weights:
            group = "heads" if row == "readout" else "edges"
            kernel = np.asarray(grads[group][row]["kernel"])
            np.testing.assert_allclose(columns["gradient"], np.abs(kernel).mean(), rtol=1e-5)
    assert all(np.isfinite(value) for row in rows.values() for value in row.values())


def test_the_order_of_the_rows_is_that_of_the_weights_then_layers_without_one():
    assert report_rows(MODELS["vgg"]) == ("conv1", "conv2", "fc1", "readout")
    assert report_rows(MODELS["neurons"]) == ("conv1", "conv2", "fc1", "output")
    blocks = [f"res{i}_{part}" for i in (1, 2) for part in ("a", "b", "skip")]
    assert report_rows(MODELS["resnet"]) == (*blocks, "output")
    # An identity skip has no weight and no states: no row.
    assert report_rows(MODELS["identity"]) == ("conv1", "res1_a", "res1_b", "readout")


@pytest.mark.parametrize("estimator", [BPTT(5), Implicit(5)], ids=["bptt", "implicit"])
def test_without_nudged_phases_there_is_no_displacement(estimator):
    rows, _, aux = report(MODELS["vgg"], estimator)
    assert (aux.nudged is None) == isinstance(estimator, BPTT)
    assert all("displacement" not in row for row in rows.values())
    assert set(rows["conv1"]) == {"activity", "zeros", "ones", "gradient"}
