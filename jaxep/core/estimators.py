"""Estimators of dL/dw at the free equilibrium: EP, BPTT, implicit; one signature for all.

`ESTIMATOR.value_and_grad(energy)` returns a pure function

    (params, (x, targets), key, start=None) -> (loss, grads, Aux)

for any `Energy`: `loss` is L_Total at the end of the free phase, averaged over the batch, and
`grads` is a tree like `params` that estimates its derivative. The free phase begins at `start`, or
at the energy's initial states.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxep.core import checks, holomorphic
from jaxep.core.energy import Dynamics, begin, phi_aug, total_loss
from jaxep.core.objective import Objective, free_objective
from jaxep.core.solvers import Solution, Solver, as_solver, relative_residual
from jaxep.core.stencils import STENCILS, Stencil, centered
from jaxep.core.sweep import Sweep, Tree

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


class ValueAndGrad(Protocol):
    """(params, (x, targets), key, start=None) -> (loss, grads, Aux), see the module."""

    def __call__(
        self, params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None
    ) -> tuple[jax.Array, Tree, Aux]: ...


def mean_loss(energy: Dynamics, params: Tree, states: Tree, targets: Tree) -> jax.Array:
    """L_Total averaged over the batch, a scalar."""
    return total_loss(energy, params, states, targets) / checks.batch_size(states)


@dataclasses.dataclass(frozen=True)
class EP:
    """Equilibrium propagation (eq. 3, 4, 12).

    Attributes:
        beta: nudging factor β, not 0. It may be traced: one compilation serves a scan over β.
        free: solver of the free phase; a number n is `Fixed(n)`.
        nudge: the same for the nudged phases, which start from the free equilibrium.
        stencil: the phases in units of β and their weights: `centered`, `one_sided`,
            `random_sign`, `four_point`, or a `Stencil`.

    Raises:
        ValueError: β is 0 or not finite, or a solver is none.
    """

    beta: float
    free: Solver | int
    nudge: Solver | int
    stencil: Stencil = centered

    def __post_init__(self) -> None:
        checks.finite_not_zero("EP: beta", self.beta)
        if not isinstance(self.stencil, Stencil):
            raise ValueError(
                f"EP: stencil = {self.stencil!r}: must be a Stencil, as {', '.join(STENCILS)}"
            )
        object.__setattr__(self, "free", as_solver(self.free))
        object.__setattr__(self, "nudge", as_solver(self.nudge))

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See the module: (params, (x, targets), key, start=None) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None):
            x, targets = batch
            start_key, sign_key = jax.random.split(key)
            objective = free_objective(energy, params, x)
            states = begin(energy, params, x, start_key, start)
            free = as_solver(self.free).run(objective, states)
            beta = self.stencil.scale(self.beta, sign_key)
            nudged = self.nudged(objective, free.states, targets, beta)
            grads = ep_gradient(
                energy, params, batch, free.states, nudged.states, self.stencil, beta
            )
            loss = mean_loss(energy, params, free.states, targets)
            return loss, grads, Aux(free, nudged)

        return estimate

    def nudged(self, objective: Objective, free: Tree, targets: Tree, beta: jax.Array) -> Solution:
        """The nudged phases from the free equilibrium, leaves [phases, batch, ...].

        Args:
            objective: of the free phase.
            free: its equilibrium.
            targets: of the loss.
            beta: β with its sign, a scalar.
        """
        betas = self.stencil.betas(beta, self.stencil.phases)
        if self.stencil.is_complex:
            holomorphic.check(objective, free, targets)
            free = holomorphic.as_complex(free)
        copies = jax.tree.map(lambda s: jnp.stack([s] * betas.size), free)
        exact = as_solver(self.free).is_exact
        nudged = objective.anchored(free).nudged(targets, betas, from_equilibrium=exact)
        return as_solver(self.nudge).run(nudged, copies)


@functools.singledispatch
def ep_gradient(
    energy: Any,
    params: Tree,
    batch: Batch,
    free: Tree,
    nudged: Tree,
    stencil: Stencil,
    beta: jax.Array,
) -> Tree:
    """-(1/β) Σ_m c_m ∂Φ_Aug/∂w(ξ^{p_m β}; p_m β), averaged over the batch: eq. 3, 4 and their like.

    Since Φ_Aug holds -βL, readouts and maps get their gradient (eq. 15) from the same expression.
    A model that is no `Energy` registers a contrast of its own (`functools.singledispatch`).

    Args:
        energy: the model.
        params: at which to differentiate.
        batch: (x, targets).
        free: free equilibrium, leaves [batch, ...].
        nudged: nudged equilibria, leaves [phases, batch, ...], in the order of the stencil's.
        stencil: points and weights.
        beta: β with its sign, a scalar.
    """
    x, targets = batch
    points = stencil.all_points(free, nudged)
    betas = stencil.betas(beta, stencil.points)

    def contrast(params: Tree) -> jax.Array:
        values = jax.vmap(lambda s, beta: phi_aug(energy, params, x, s, targets, beta))
        return -stencil.weighted(values(points, betas)) / (beta * checks.batch_size(free))

    return jax.grad(contrast)(params)


@dataclasses.dataclass(frozen=True)
class BPTT:
    """Backpropagation through the last steps of the free phase (eq. 5).

    Memory grows with `unrolled` times the states.

    Attributes:
        free: gives the number of steps T, the order and the relaxation; always run to T. A number
            n is `Fixed(n)`.
        unrolled: K, through how many of the last steps to go back; None: all, full BPTT.

    Raises:
        ValueError: K is not in 1, ..., T.
    """

    free: Solver | int
    unrolled: int | None = None

    def __post_init__(self) -> None:
        free = as_solver(self.free)
        unrolled = free.steps if self.unrolled is None else self.unrolled
        checks.at_least_one("BPTT: unrolled", unrolled)
        if unrolled > free.steps:
            raise ValueError(
                f"BPTT: unrolled = {unrolled}: must be at most the {free.steps} steps of the free "
                "phase"
            )
        object.__setattr__(self, "free", free)
        object.__setattr__(self, "unrolled", unrolled)

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See the module: (params, (x, targets), key, start=None) -> (loss, grads, Aux)."""
        solver, unrolled = as_solver(self.free), self.unrolled
        assert unrolled is not None

        def sweep_of(params: Tree, x: Tree, states: Tree) -> Sweep:
            objective = free_objective(energy, params, x)
            return Sweep.over(objective, states, solver.order, solver.relaxation)

        def loss_of(params: Tree, batch: Batch, start: Tree):
            x, targets = batch
            step = sweep_of(params, x, start)

            def body(carry, _):
                return (carry[1], step(carry[1])), None

            (old, new), _ = jax.lax.scan(body, (start, start), length=unrolled)
            residual = relative_residual(*jax.lax.stop_gradient((new, old)), solver.relaxation)
            steps = jnp.asarray(solver.steps, jnp.int32)
            return mean_loss(energy, params, new, targets), Solution(new, steps, residual)

        def estimate(params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None):
            x, _ = batch
            states = begin(energy, params, x, jax.random.split(key)[0], start)
            step, past = sweep_of(params, x, states), solver.steps - unrolled
            settled = jax.lax.fori_loop(0, past, lambda _, at: step(at), states)
            grad = jax.value_and_grad(loss_of, has_aux=True)
            (loss, free), grads = grad(params, batch, jax.lax.stop_gradient(settled))
            return loss, grads, Aux(free)

        return estimate
