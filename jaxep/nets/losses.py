"""Per-sample losses: plain functions of arrays, one value for each row of the batch."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of softmax(logits) with integer labels.

    Args:
        logits: [batch, classes].
        labels: integers [batch].

    Returns:
        Nats, [batch].
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """L = 1/2 ||outputs - onehot(labels)||^2, the loss of an output that is a neuron layer.

    Args:
        outputs: states of the output layer, [batch, classes].
        labels: integers [batch].

    Returns:
        [batch].
    """
    onehot = jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
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
    values = tau**2 * optax.softmax_cross_entropy(logits / tau, distribution)
    return values.reshape(values.shape[0], -1).mean(axis=-1)
