"""Continual EP: the weights move in every nudged step, by that step's contrast.

    w <- w + (η/β) [∂Φ_Aug/∂w(ξ_{t+1}; β) - ∂Φ_Aug/∂w(ξ_t; β_t)],  β_0 = 0 and β_t = β after

Ernoult, Grollier, Querlioz, Bengio & Scellier 2020 (arXiv 2005.04168; public code
ernoult/continualEP): nothing of the free phase has to be kept for the end of the nudged one. They
have Φ in the place of Φ_Aug and no readout outside of Φ. Here the nudge counts as part of the
first step, so that a readout or a map learns by the same expression, and the contrasts of all
steps sum to EP's (eq. 3) where the weights stand still.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.energy import Dynamics, begin
from jaxep.core.estimators import Aux, Batch, ValueAndGrad, ep_gradient, mean_loss
from jaxep.core.objective import free_objective
from jaxep.core.solvers import Solution, Solver, as_solver, relative_residual
from jaxep.core.stencils import Stencil, one_sided, random_sign
from jaxep.core.sweep import Sweep, Tree


@dataclasses.dataclass(frozen=True)
class ContinualEP:
    """EP whose nudged phase is computed with weights that move in each of its steps (C-EP).

    The gradient is (w before - w after) / η of one nudged phase: SGD at the rate η, with neither
    momentum nor decay, puts the weights where the phase has left them, and is C-EP as it is
    published. As η falls the estimate goes to that of `EP`; the difference is of first order in η.

    Memory does not grow with the steps, but what `FastPhi.prepare` does once is done in each.

    Attributes:
        beta: nudging factor β, not 0.
        free: solver of the free phase; a number n is `Fixed(n)`.
        nudge: gives the number of steps of the nudged phase, the order and the relaxation; always
            run to the end, and the weights move once in a sweep. A number n is `Fixed(n)`.
        rate: η, for all weights, over 0.
        stencil: `one_sided` or `random_sign`.

    Raises:
        ValueError: a setting is not one of these.
    """

    beta: float
    free: Solver | int
    nudge: Solver | int
    rate: float
    stencil: Stencil = one_sided

    def __post_init__(self) -> None:
        checks.finite_not_zero("ContinualEP: beta", self.beta)
        checks.between("ContinualEP: rate", self.rate, 0, math.inf)
        if self.stencil not in (one_sided, random_sign):
            raise ValueError(
                f"ContinualEP: stencil = {self.stencil!r}: must be one_sided or random_sign, whose "
                "one phase starts at the free equilibrium"
            )
        object.__setattr__(self, "free", as_solver(self.free))
        object.__setattr__(self, "nudge", as_solver(self.nudge))
        checks.at_least_one("ContinualEP: steps of nudge", as_solver(self.nudge).steps)

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See `estimators`: (params, (x, targets), key, start=None) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None):
            x, targets = batch
            start_key, sign_key = jax.random.split(key)
            states = begin(energy, params, x, start_key, start)
            free = as_solver(self.free).run(free_objective(energy, params, x), states)
            beta = self.stencil.scale(self.beta, sign_key)
            grads, nudged = self._nudged_phase(energy, params, batch, free.states, beta)
            return mean_loss(energy, params, free.states, targets), grads, Aux(free, nudged)

        return estimate

    def _nudged_phase(
        self, energy: Dynamics, params: Tree, batch: Batch, free: Tree, beta: jax.Array
    ) -> tuple[Tree, Solution]:
        """(the sum of the steps' contrasts, the end of the phase)."""
        (x, targets), solver = batch, as_solver(self.nudge)

        def step(number, carry):
            new, _, total = carry
            # From the sum and not from the last weights: it has no error of rounding / η.
            moved = jax.tree.map(lambda w, g: w - self.rate * g, params, total)
            objective = free_objective(energy, moved, x).anchored(free)
            sweep = Sweep.over(
                objective.nudged(targets, beta[None]), new, solver.order, solver.relaxation
            )
            old, new = new, sweep(new)
            before = jax.tree.map(lambda s: s[0], old)
            own = ep_gradient(energy, moved, batch, before, new, one_sided, beta)
            # EP's contrast has no nudge in the states it compares with: right in the first step.
            known = jax.grad(lambda w: mean_loss(energy, w, before, targets))(moved)
            own = jax.tree.map(lambda g, k: g - jnp.where(number == 0, 0, k), own, known)
            return new, old, jax.tree.map(jnp.add, total, own)

        start = jax.tree.map(lambda s: s[None], free)
        carry = start, start, jax.tree.map(jnp.zeros_like, params)
        new, old, total = jax.lax.fori_loop(0, solver.steps, step, carry)
        residual = relative_residual(new, old, solver.relaxation)
        return total, Solution(new, jnp.asarray(solver.steps, jnp.int32), residual)
