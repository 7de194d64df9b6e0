"""What the paper draws and what it only assumes, measured: layers, energies, contraction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.estimators import Aux
from jaxep.core.solvers import tree_norm
from jaxep.core.sweep import Energy, Sweep, Tree, free_value


def energy_per_sample(energy: Energy, params: Tree, x: Tree, states: Tree) -> jax.Array:
    """E = 1/2 ||ξ||² - Φ(x, ξ, w) for each sample, [batch]; `phi` must return one per sample."""
    square = sum(
        jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(states)
    )
    return 0.5 * square - energy.phi(params, x, states)


def layer_report(params: dict[str, Any], grads: dict[str, Any], aux: Aux) -> dict[str, jax.Array]:
    """Fig. 5 for one batch: a row for each weighted layer.

    Args:
        params: of a `Network`.
        grads: gradient of the loss in `params`.
        aux: of the estimator that gave `grads`.

    Returns:
        activity: mean |ξ| per neuron; gradient: mean |∂w| per parameter of the kernel;
        displacement: ||ξ^β - ξ*|| averaged over samples, of the first nudged phase; zeros, ones:
        shares of the free states that are exactly 0 or 1, where hard_sigmoid clips. NaN where a
        layer has no neurons (the readout) or the estimator no nudged phase.
    """
    kernels = [layer["kernel"] for layer in grads["layers"]]
    if "readout" in grads:
        kernels.append(grads["readout"]["kernel"])
    missing = [jnp.nan] * (len(kernels) - len(aux.free.states))
    activity: list[Any] = [jnp.mean(jnp.abs(state)) for state in aux.free.states]
    displacement: list[Any] = [jnp.nan] * len(aux.free.states)
    nudged = aux.nudged
    if nudged is not None and jax.tree.leaves(nudged.states)[0].ndim > aux.free.states[0].ndim:
        displacement = [
            jnp.mean(jnp.linalg.norm((moved[0] - free).reshape(free.shape[0], -1), axis=-1))
            for moved, free in zip(nudged.states, aux.free.states, strict=True)
        ]
    return {
        "activity": jnp.asarray(activity + missing),
        "gradient": jnp.asarray([jnp.mean(jnp.abs(kernel)) for kernel in kernels]),
        "displacement": jnp.asarray(displacement + missing),
        "zeros": jnp.asarray([jnp.mean(state == 0) for state in aux.free.states] + missing),
        "ones": jnp.asarray([jnp.mean(state == 1) for state in aux.free.states] + missing),
    }


def lipschitz(
    function: Callable[[Tree], Tree], point: Tree, key: jax.Array, steps: int = 100
) -> jax.Array:
    """Largest singular value of the Jacobian of `function` at `point`.

    Power iteration on JᵀJ by one JVP and one VJP a step; J is never built. The supremum over all
    points is the Lipschitz constant K of Theorem 3.1.

    Args:
        function: tree -> tree of the same structure, differentiable at `point`.
        point: where to linearise.
        key: of the first direction.
        steps: iterations.
    """
    leaves, tree = jax.tree.flatten(point)
    keys = jax.random.split(key, len(leaves))
    start = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    _, pullback = jax.vjp(function, point)

    def scaled(direction: Tree) -> tuple[Tree, jax.Array]:
        norm = tree_norm(direction)
        safe = jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
        return jax.tree.map(lambda leaf: leaf / safe, direction), norm

    def body(_, carry):
        direction, _ = carry
        pushed = jax.jvp(function, (point,), (direction,))[1]
        direction, norm = scaled(pullback(pushed)[0])
        return direction, jnp.sqrt(norm)

    first, _ = scaled(jax.tree.unflatten(tree, start))
    return jax.lax.fori_loop(0, steps, body, (first, jnp.zeros((), leaves[0].dtype)))[1]


def transition(energy: Energy, params: Tree, x: Tree) -> Callable[[Tree], Tree]:
    """F(ξ) = σ(∂Φ/∂ξ), the synchronous free transition whose Lipschitz constant is K₁."""
    return Sweep(energy, free_value(energy, params, x), "synchronous")
