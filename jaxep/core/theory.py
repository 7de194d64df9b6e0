"""What Theorem 3.1 assumes, measured: how far the transition contracts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxep.core.energy import Energy
from jaxep.core.objective import free_objective
from jaxep.core.solvers import tree_norm
from jaxep.core.sweep import Sweep, Tree


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
    objective = free_objective(energy, params, x)
    return lambda states: Sweep.over(objective, states, "synchronous")(states)
