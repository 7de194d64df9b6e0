"""Is a run well? Updates that are not finite, layers that are stuck, phases that do not settle."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.run.tables import Rows

PyTree = Any
# What is wrong by (kind, layer), a sentence each: a run says each once.
Warnings = dict[tuple[str, str], str]

# Where a network's parameters are keyed by the names of its parts.
GROUPS = ("edges", "layers", "heads")
# Shares of a layer's states over 100 test images. Healthy digits nets of 8 and 12 layers have up to
# 0.95 zeros and 0.32 ones in any layer and epoch.
DEAD = 0.999
SATURATED = 0.95
# Relative change of the states in the last sweep of the free phase, a mean over the epoch: those
# nets end at 0.02 and less after 16 sweeps; a net that falls into a 2-cycle stays at 0.06 or more.
UNSETTLED = 0.05


def is_finite(tree: PyTree, metrics: Mapping[str, jax.Array]) -> jax.Array:
    """Whether an update may be taken: a boolean scalar, to be used within jit.

    Args:
      tree: what the update would leave: the parameters hold whatever was not finite in gradients
        or states.
      metrics: of the update. The loss must be finite; the others must not be NaN (the residual of
        a first sweep from zeros is infinite and harmless).
    """
    good = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    good += [~jnp.isnan(value) for value in metrics.values()]
    return jnp.all(jnp.stack([*good, jnp.isfinite(metrics["loss"])]))


def diagnosis(grads: PyTree, metrics: Mapping[str, jax.Array]) -> str:
    """What was not finite in an update, in which layers, and the likely cause: a clause.

    Args:
      grads: gradients of the update, keyed as a network's parameters (edges, layers or heads, then
        a name) or as those of flax (modules by name).
      metrics: of the update.
    """
    bad: list[str] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            names = [jax.tree_util.keystr((key,), simple=True) for key in path]
            layer = names[1] if names[0] in GROUPS and len(names) > 1 else names[0]
            bad += [layer] if layer not in bad else []
    where = f"the gradients of {', '.join(bad)}" if bad else "the loss"
    if np.isnan(metrics.get("free_residual", 0.0)):
        return (
            f"{where}, after states of the free phase that overflow: lower gain or learning_rates"
        )
    if np.isnan(metrics.get("nudge_residual", 0.0)):
        return f"{where}, after states of a nudged phase that overflow: lower beta or kappa"
    if bad or not np.isfinite(metrics["loss"]):
        return f"{where}: lower learning_rates, kappa or gain"
    return "the new parameters: lower learning_rates"


def warnings(row: Mapping[str, Any], layers: Rows, updates: int) -> Warnings:
    """What looks wrong at the end of an epoch.

    Args:
      row: of metrics.csv.
      layers: rows of layers.csv of this epoch by their names, without what they do not have.
      updates: number of updates of an epoch.
    """
    at = f"epoch {row['epoch']}, update {row['epoch'] * updates}"
    found: Warnings = {}
    for name, columns in layers.items():
        zeros, ones = columns.get("zeros"), columns.get("ones")
        if zeros is not None and zeros >= DEAD:
            cause = "its gain or learning rate is too large, or no signal reaches it"
            found["dead", name] = f"{at}: {zeros:.1%} of the states of {name} are 0: {cause}"
        elif ones is not None and ones >= SATURATED:
            cause = "gain or learning rate, or beta or kappa, push too hard"
            found["saturated", name] = f"{at}: {ones:.1%} of the states of {name} are 1: {cause}"
    residual = row.get("free_residual")
    if residual is not None and residual >= UNSETTLED:
        found["unsettled", ""] = (
            f"{at}: the free phase does not settle (its last sweep still moves the states by "
            f"{residual:.0%}): larger t_free, order alternating, or lower gain and learning_rates"
        )
    if row["skipped"]:
        found["skipped", str(row["epoch"])] = (
            f"{at}: {row['skipped']} of {updates} updates were not finite and dropped: lower "
            f"learning_rates, kappa or gain"
        )
    return found
