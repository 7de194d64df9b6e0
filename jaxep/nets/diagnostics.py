"""What the paper draws of each layer (Fig. 5), measured on one batch."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.estimators import Aux
from jaxep.nets.model import Model

Row = dict[str, jax.Array]


def report_rows(model: Model) -> tuple[str, ...]:
    """The rows of `layer_report` in order: weights, then layers without one of their name."""
    return tuple(dict.fromkeys((*model.weight_names, *model.network.layer_names)))


def layer_report(model: Model, grads: dict[str, Any], aux: Aux) -> dict[str, Row]:
    """Fig. 5 for one batch: a row for each layer and each weight, by name.

    Args:
        model: of the parameters.
        grads: gradient of the loss in the parameters.
        aux: of the estimator that gave `grads`.

    Returns:
        activity: mean |ξ| per neuron; gradient: mean |∂w| per parameter of the kernel;
        displacement: ||ξ^β - ξ*|| averaged over samples, of the first nudged phase; zeros, ones:
        shares of the free states that are exactly 0 or 1, where hard_sigmoid clips. A row has
        those that exist. Under `jit` the rows come back sorted by name: the network's order is
        that of `model.weight_names`.
    """
    rows: dict[str, Row] = {name: {} for name in report_rows(model)}
    for name, free in aux.free.states.items():
        rows[name] |= {"activity": jnp.mean(jnp.abs(free))}
        rows[name] |= {"zeros": jnp.mean(free == 0), "ones": jnp.mean(free == 1)}
        # The nudged states of an exact gradient are an adjoint, without phases.
        moved = None if aux.nudged is None else aux.nudged.states[name]
        if moved is not None and moved.ndim > free.ndim:
            change = (moved[0] - free).reshape(free.shape[0], -1)
            rows[name] |= {"displacement": jnp.mean(jnp.linalg.norm(change, axis=-1))}
    for name, own in {**grads["edges"], **grads["heads"]}.items():
        if name in rows and "kernel" in own:
            rows[name] |= {"gradient": jnp.mean(jnp.abs(own["kernel"]))}
    return rows
