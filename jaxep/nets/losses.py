"""Per-sample losses: plain functions of arrays, one value for each row of the batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def _known(labels: jax.Array, classes: int) -> jax.Array:
    """Whether each label is one of the classes, [batch]: none may count as another one.

    Raises:
        ValueError: a label that is not traced is none of them.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: are {labels.dtype}: must be integers")
    known = (labels >= 0) & (labels < classes)
    if not isinstance(known, jax.core.Tracer) and not known.all():
        wrong = labels[~known].ravel()[0]
        raise ValueError(f"labels: {wrong} is none of the classes 0 to {classes - 1}")
    return known


def one_hot(labels: jax.Array, classes: int, dtype: Any = jnp.float32) -> jax.Array:
    """The distribution that is 1 at each label, [batch, classes].

    Args:
        labels: integers [batch].
        classes: their number.
        dtype: of the result.

    Raises:
        ValueError: a label is none of the classes. Within `jax.jit`, where labels are not known,
            its row is NaN.
    """
    labels = jnp.asarray(labels)
    known = _known(labels, classes)[:, None]
    # Not times NaN: XLA makes 0 of the zeros of a one-hot row times anything.
    return jnp.where(known, jax.nn.one_hot(labels, classes, dtype=dtype), jnp.nan)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of softmax(logits) with integer labels.

    Args:
        logits: [batch, classes].
        labels: integers [batch].

    Returns:
        Nats, [batch].

    Raises:
        ValueError: a label is none of the classes; NaN within `jax.jit`.
    """
    labels = jnp.asarray(labels)
    factor = jnp.where(_known(labels, logits.shape[-1]), 1.0, jnp.nan).astype(logits.dtype)
    if jnp.iscomplexobj(logits):  # optax takes none
        chosen = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]
        return factor * (jax.nn.logsumexp(logits, -1) - chosen)
    return factor * optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """L = 1/2 ||outputs - onehot(labels)||^2, the loss of an output that is a neuron layer.

    Args:
        outputs: states of the output layer, [batch, classes].
        labels: integers [batch].

    Returns:
        [batch].

    Raises:
        ValueError: a label is none of the classes; NaN within `jax.jit`.
    """
    onehot = one_hot(labels, outputs.shape[-1], outputs.dtype)
    return 0.5 * jnp.sum((outputs - onehot) ** 2, axis=-1)


def soft_target(logits: jax.Array, distribution: jax.Array, tau: float) -> jax.Array:
    """tau^2 * CE(distribution, softmax(logits / tau)) over the last axis.

    The factor tau^2 keeps the size of the gradient independent of the temperature
    (Hinton et al. 2015). Leading axes behind the batch (positions of a feature map) are averaged.

    Args:
        logits: [batch, ..., units].
        distribution: non-negative, sums to 1 over the last axis, same shape as `logits`.
        tau: temperature, dimensionless.

    Returns:
        Nats times tau^2, [batch].
    """
    if jnp.iscomplexobj(logits):
        distribution = distribution.astype(logits.dtype)
    values = -(tau**2) * jnp.sum(distribution * jax.nn.log_softmax(logits / tau), -1)
    return values.reshape(values.shape[0], -1).mean(axis=-1)
