"""Estimators of dL/dw at the free equilibrium: EP, BPTT, implicit; one signature for all.

`ESTIMATOR.value_and_grad(energy)` returns a pure function

    (params, (x, targets), key) -> (loss, grads, Aux)

for any `Energy`: `loss` is L_Total at the end of the free phase, averaged over the batch, and
`grads` is a tree like `params` that estimates its derivative.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core.solvers import Solution, Solver, relative_residual
from jaxep.core.sweep import Energy, Sweep, Tree, free_value, nudged_value, per_leaf, phi_aug

Batch = tuple[Any, Any]


class Aux(NamedTuple):
    """What an estimator leaves behind.

    Attributes:
        free: the end of the free phase.
        nudged: the end of the nudged phases, leaves [phases, batch, ...]; None without them. For
            `Implicit` it is the linear solve: the adjoint states, iterations not told (0), and
            the relative residual of the linear system.
    """

    free: Solution
    nudged: Solution | None = None


ValueAndGrad = Callable[[Tree, Batch, jax.Array], tuple[jax.Array, Tree, Aux]]


def mean_loss(energy: Energy, params: Tree, states: Tree, targets: Tree) -> jax.Array:
    """L_Total averaged over the batch, a scalar."""
    return jnp.mean(energy.loss(params, states, targets))


def free_phase(
    energy: Energy, solver: Solver, params: Tree, x: Tree, key: jax.Array
) -> tuple[Solution, tuple[Tree, Tree]]:
    """Settles without nudging from the energy's initial states.

    Returns:
        (the equilibrium, what `energy.prepare` made of (params, x) for use in later phases).
    """
    prepared = energy.prepare(params, x)
    start = energy.init_states(key, x)
    return solver.run(energy, free_value(energy, *prepared), start), prepared


def centered(beta: float, key: jax.Array) -> jax.Array:
    """Nudging factors (β, -β) of the three-phase estimate, eq. 4: error O(β²)."""
    del key
    return jnp.asarray([beta, -beta])


def one_sided(beta: float, key: jax.Array) -> jax.Array:
    """Nudging factor (β,) against the free states, eq. 3: error O(β)."""
    del key
    return jnp.asarray([beta])


def random_sign(beta: float, key: jax.Array) -> jax.Array:
    """Nudging factor (β,) or (-β,) with equal chances: the O(β) error cancels on average."""
    return beta * jax.random.rademacher(key, (1,), jnp.float32)


VARIANTS = {"centered": centered, "one_sided": one_sided, "random_sign": random_sign}


@dataclasses.dataclass(frozen=True)
class EP:
    """Equilibrium propagation (eq. 3, 4, 12).

    Attributes:
        beta: nudging factor β, not 0.
        free: solver of the free phase.
        nudge: solver of the nudged phases, which start from the free equilibrium.
        betas: the phases' nudging factors from (β, key): `centered`, `one_sided`, `random_sign`.
    """

    beta: float
    free: Solver
    nudge: Solver
    betas: Callable[[float, jax.Array], jax.Array] = centered

    def value_and_grad(self, energy: Energy) -> ValueAndGrad:
        """See the module: (params, (x, targets), key) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array):
            x, targets = batch
            start_key, beta_key = jax.random.split(key)
            free, prepared = free_phase(energy, self.free, params, x, start_key)
            betas = self.betas(self.beta, beta_key)
            start = jax.tree.map(lambda s: jnp.stack([s] * betas.size), free.states)
            value = nudged_value(energy, *prepared, targets, betas)
            nudged = self.nudge.run(energy, value, start)
            grads = ep_gradient(energy, params, batch, free.states, nudged.states, betas)
            loss = mean_loss(energy, params, free.states, targets)
            return loss, grads, Aux(free, nudged)

        return estimate


def ep_gradient(
    energy: Energy, params: Tree, batch: Batch, free: Tree, nudged: Tree, betas: jax.Array
) -> Tree:
    """-(1/(β₊ - β₋)) [∂Φ_Aug/∂w(ξ₊; β₊) - ∂Φ_Aug/∂w(ξ₋; β₋)], averaged over the batch.

    With two nudged phases (β, -β) this is eq. 4; with one, the other side is the free equilibrium
    at β₋ = 0 and this is eq. 3. Since Φ_Aug holds -βL, readouts and maps get their gradient
    (eq. 15) from the same expression.

    Args:
        energy: the model.
        params: at which to differentiate.
        batch: (x, targets).
        free: free equilibrium, leaves [batch, ...].
        nudged: nudged equilibria, leaves [phases, batch, ...].
        betas: [phases], one or two phases.
    """
    x, targets = batch
    if betas.size == 1:
        nudged = jax.tree.map(lambda n, f: jnp.concatenate([n, f[None]]), nudged, free)
        betas = jnp.append(betas, 0)

    def contrast(params: Tree) -> jax.Array:
        values = jax.vmap(lambda s, beta: phi_aug(energy, params, x, s, targets, beta))
        plus, minus = values(nudged, betas)
        return -(plus - minus) / ((betas[0] - betas[1]) * jax.tree.leaves(free)[0].shape[0])

    return jax.grad(contrast)(params)


@dataclasses.dataclass(frozen=True)
class BPTT:
    """Backpropagation through the last steps of the free phase (eq. 5).

    Memory grows with `unrolled` times the states.

    Attributes:
        free: gives the number of steps T, the order and the relaxation; always run to T.
        unrolled: K, through how many of the last steps to go back; K = T is full BPTT.
    """

    free: Solver
    unrolled: int

    def value_and_grad(self, energy: Energy) -> ValueAndGrad:
        """See the module: (params, (x, targets), key) -> (loss, grads, Aux)."""

        def run(step, states: Tree, count: int) -> tuple[Tree, Tree]:
            """`count` steps of `step`; the states before the last one, and the last."""

            def body(carry, _):
                return (carry[1], step(carry[1])), None

            return jax.lax.scan(body, (states, states), length=count)[0]

        def loss_of(params: Tree, batch: Batch, start: Tree):
            x, targets = batch
            value = free_value(energy, *energy.prepare(params, x))
            step = Sweep(energy, value, self.free.order, self.free.relaxation)
            old, new = run(step, start, self.unrolled)
            residual = relative_residual(*jax.lax.stop_gradient((new, old)), self.free.relaxation)
            steps = jnp.asarray(self.free.steps, jnp.int32)
            return mean_loss(energy, params, new, targets), Solution(new, steps, residual)

        def estimate(params: Tree, batch: Batch, key: jax.Array):
            x, _ = batch
            start = energy.init_states(jax.random.split(key)[0], x)
            value = free_value(energy, *energy.prepare(params, x))
            step = Sweep(energy, value, self.free.order, self.free.relaxation)
            past = self.free.steps - self.unrolled
            settled = jax.lax.fori_loop(0, past, lambda _, states: step(states), start)
            grad = jax.value_and_grad(loss_of, has_aux=True)
            (loss, free), grads = grad(params, batch, jax.lax.stop_gradient(settled))
            return loss, grads, Aux(free)

        return estimate


@dataclasses.dataclass(frozen=True)
class Implicit:
    """Recurrent backpropagation (Almeida 1990, Pineda 1987): exact at a stable equilibrium.

    With H = ∂²Φ/∂ξ² and D = diag(σ') at the equilibrium, dL/dw = ∂L/∂w + <∂²Φ/∂w∂ξ, D λ> where
    (I - H D) λ = ∂L/∂ξ. Its symmetric form, (I - D½ H D½) u = D½ ∂L/∂ξ with D λ = D½ u, is
    positive definite at a strict minimum of E, so conjugate gradients solve it with products
    alone and memory that does not grow with time.

    Attributes:
        free: solver of the free phase; the gradient is exact in the limit of its convergence.
        tol: relative residual of the linear system.
        steps: iterations at most.
    """

    free: Solver
    tol: float = 1e-6
    steps: int = 500

    def value_and_grad(self, energy: Energy) -> ValueAndGrad:
        """See the module: (params, (x, targets), key) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array):
            x, targets = batch
            start_key = jax.random.split(key)[0]
            free, prepared = free_phase(energy, self.free, params, x, start_key)
            adjoint, residual = self._adjoint(energy, prepared, params, targets, free.states)

            def contrast(params: Tree) -> jax.Array:
                drive = jax.grad(free_value(energy, params, x))(free.states)
                inner = jax.tree.map(lambda a, b: jnp.sum(a * b), drive, adjoint)
                loss = mean_loss(energy, params, free.states, targets)
                return loss + sum(jax.tree.leaves(inner))

            loss = mean_loss(energy, params, free.states, targets)
            solve = Solution(adjoint, jnp.zeros((), jnp.int32), residual)
            return loss, jax.grad(contrast)(params), Aux(free, solve)

        return estimate

    def _adjoint(self, energy: Energy, prepared, params: Tree, targets: Tree, states: Tree):
        """D λ = D½ u at `states`, and the relative residual of the system for u."""
        drive = jax.grad(free_value(energy, *prepared))
        root = _root_slopes(energy, drive(states))

        def times_root(tree: Tree) -> Tree:
            return jax.tree.map(jnp.multiply, root, tree)

        def matrix(u: Tree) -> Tree:
            product = jax.jvp(drive, (states,), (times_root(u),))[1]
            return jax.tree.map(jnp.subtract, u, times_root(product))

        slope = jax.grad(lambda s: mean_loss(energy, params, s, targets))(states)
        right = times_root(slope)
        u, _ = jax.scipy.sparse.linalg.cg(matrix, right, tol=self.tol, maxiter=self.steps)
        return times_root(u), relative_residual(matrix(u), right)


def _root_slopes(energy: Energy, arguments: Tree) -> Tree:
    """sqrt(σ') of each unit at its argument ∂Φ/∂ξ."""
    leaves, tree = jax.tree.flatten(arguments)

    def root(activation, argument):
        _, slope = jax.jvp(activation, (argument,), (jnp.ones_like(argument),))
        return jnp.sqrt(slope)

    activations = per_leaf(energy.activation, arguments)
    return jax.tree.unflatten(tree, [root(*pair) for pair in zip(activations, leaves, strict=True)])
