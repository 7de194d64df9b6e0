"""Optimizers with one learning rate for each weight and cosine annealing, composed in optax."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

Rule = Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]


def rate_schedule(kind: str, rate: float, steps: int) -> optax.Schedule:
    """Learning rate over update steps: `cosine` from `rate` to 0 in `steps`, or `constant`."""
    if kind == "constant":
        return optax.constant_schedule(rate)
    cosine = optax.cosine_decay_schedule(rate, steps)
    # Of a float: a product of the integer count with π is refused under strict type promotion.
    return lambda count: cosine(jnp.asarray(count, jnp.float32))


def update_rule(kind: str, momentum: float, nesterov: bool, weight_decay: float) -> Rule:
    """The function rate -> optimizer of a kind, with weight decay on every parameter.

    Args:
        kind: `sgd`, as PyTorch's: the decay joins the gradient before the momentum; `adam`: it
            joins the gradient likewise; `adamw`: it is apart (Loshchilov & Hutter 2019).
        momentum: of the velocity; β1 of adam and adamw.
        nesterov: whether the momentum looks ahead.
        weight_decay: coefficient of the decay.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "adamw":
        return lambda rate: optax.adamw(
            rate, b1=momentum, weight_decay=weight_decay, nesterov=nesterov
        )
    decay = optax.add_decayed_weights(weight_decay)
    if kind == "adam":
        return lambda rate: optax.chain(decay, optax.adam(rate, b1=momentum, nesterov=nesterov))
    if kind == "sgd":
        return lambda rate: optax.chain(decay, optax.sgd(rate, momentum, nesterov))
    raise ValueError(f"optimizer {kind!r}: must be one of sgd, adam, adamw")


def by_weight(
    rule: Rule, schedules: Mapping[str, optax.Schedule], labels: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """One learning rate for each weight.

    Args:
        rule: as of `update_rule`.
        schedules: learning rate by the name of the weight.
        labels: params -> a tree like it, of the names whose rate each parameter uses
            (`Model.weight_labels`).
    """
    transforms = {name: rule(schedule) for name, schedule in schedules.items()}
    return optax.multi_transform(transforms, labels)


def apply(optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any):
    """One update: (new params, new optimizer state)."""
    # optax's adam takes a float to the power of its integer count: refused under strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, opt_state, params)
    return jax.tree.map(jnp.add, params, updates), opt_state
