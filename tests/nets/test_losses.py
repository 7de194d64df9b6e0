"""Losses against formulas by hand, and labels that are none of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import Tolerance
from jaxep.core.estimators import EP
from jaxep.nets import Targets, local_errors, mlp
from jaxep.nets.losses import cross_entropy, one_hot, soft_target, squared_error

LOGITS = jnp.asarray([[0.1, 0.7, -1.0], [2.0, 0.0, 0.5], [0.3, 0.3, 0.3]])
LABELS = jnp.asarray([1, 0, 2])
LOSSES = [cross_entropy, squared_error]


def softmax(x):
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_values_by_hand():
    logits, eye = np.asarray(LOGITS), np.eye(3)[[1, 0, 2]]
    np.testing.assert_allclose(
        cross_entropy(LOGITS, LABELS), -np.log(softmax(logits)[range(3), [1, 0, 2]]), rtol=1e-6
    )
    np.testing.assert_allclose(
        squared_error(LOGITS, LABELS), 0.5 * ((logits - eye) ** 2).sum(-1), rtol=1e-6
    )
    expected = -4 * (eye * np.log(softmax(logits / 2))).sum(-1)
    np.testing.assert_allclose(soft_target(LOGITS, one_hot(LABELS, 3), 2.0), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [*LOSSES, lambda x, labels: one_hot(labels, x.shape[-1])])
@pytest.mark.parametrize("label", [-1, 3, 10, -100])
def test_a_label_that_is_no_class_is_refused_where_it_is_known(loss, label):
    """-1 counted as the last class, by the wrapping of indices."""
    with pytest.raises(ValueError, match=f"labels: {label} is none of the classes 0 to 2"):
        loss(LOGITS, LABELS.at[1].set(label))
    with pytest.raises(ValueError, match="labels: are float32: must be integers"):
        loss(LOGITS, LABELS.astype(jnp.float32))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_nan_where_it_is_traced(loss, label):
    labels = LABELS.at[1].set(label)
    values = jax.jit(loss)(LOGITS, labels)
    slopes = jax.jit(jax.grad(lambda x, y: loss(x, y).sum()))(LOGITS, labels)
    assert list(np.isnan(values)) == [False, True, False]
    assert list(np.isnan(slopes).all(-1)) == [False, True, False]
    np.testing.assert_allclose(values[0], loss(LOGITS, LABELS)[0], rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_right_labels_pass_also_with_debug_nans(loss):
    with jax.debug_nans(True):
        np.testing.assert_allclose(jax.jit(loss)(LOGITS, LABELS), loss(LOGITS, LABELS), rtol=1e-6)


@pytest.mark.parametrize("output", ["readout", "neurons"])
def test_the_gradient_of_a_batch_with_a_wrong_label_is_not_finite(output):
    """So that a trainer that looks whether it is finite stops; also where LE alone sees it."""
    model = mlp((4,), (2,), 3, output=output)
    model = model.with_heads(*local_errors(model.network, ["fc1"], 3))
    params, x = model.init_params(jax.random.key(0)), jnp.ones((3, 2))
    estimate = EP(0.1, Tolerance(5), 5).value_and_grad(model.energy())
    with pytest.raises(ValueError, match="labels: 3 is none of the classes"):
        estimate(params, (x, Targets(LABELS.at[0].set(3), 0.5)), jax.random.key(0))
    loss, grads, _ = jax.jit(estimate)(
        params, (x, Targets(LABELS.at[0].set(3), 0.5)), jax.random.key(0)
    )
    assert np.isnan(loss)
    assert np.isnan(grads["heads"]["le_fc1"]["kernel"]).any()
