"""The exact gradient: at an equilibrium by the implicit function theorem, or of a forward pass."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.activations import is_rising
from jaxep.core.energy import Dynamics, begin
from jaxep.core.estimators import Aux, Batch, ValueAndGrad, mean_loss
from jaxep.core.objective import Objective, free_objective
from jaxep.core.solvers import Settled, Solution, Solver, as_solver, relative_residual
from jaxep.core.sweep import Sweep, Tree


@dataclasses.dataclass(frozen=True)
class Implicit:
    """Recurrent backpropagation (Almeida 1990, Pineda 1987): exact at a stable equilibrium.

    With J = ∂F/∂ξ of the transition F(ξ) = σ(∂Φ/∂ξ), dL/dw = ∂L/∂w + <∂F/∂w, λ> where
    (I - Jᵀ) λ = ∂L/∂ξ. J = D H with D = diag(σ') and H = ∂²Φ/∂ξ². Where no slope σ' is negative
    the symmetric form (I - D½ H D½) u = D½ ∂L/∂ξ, D λ = D½ u, is positive definite at a strict
    minimum of E: conjugate gradients solve it. Else, for a σ that does not act on each unit by
    itself, and for a `VectorField`, the system for λ is solved as it stands, by BiCGSTAB. Either
    needs products alone, and memory that does not grow with time.

    Attributes:
        free: solver of the free phase; the gradient is exact in the limit of its convergence. A
            number n is `Fixed(n)`.
        tol: relative residual of the linear system.
        steps: iterations at most.

    Raises:
        ValueError: a setting is not one of these.
    """

    free: Solver | int
    tol: float = 1e-6
    steps: int = 500

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", as_solver(self.free))
        checks.between("Implicit: tol", self.tol, 0, 1)
        checks.at_least_one("Implicit: steps", self.steps)

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See the module: (params, (x, targets), key, start=None) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None):
            x, targets = batch
            states = begin(energy, params, x, jax.random.split(key)[0], start)
            objective = free_objective(energy, params, x)
            free = as_solver(self.free).run(objective, states)
            loss_of = functools.partial(mean_loss, energy)
            slope = jax.grad(loss_of, argnums=1)(params, free.states, targets)
            adjoint, residual = self.adjoint(objective, slope, free.states)

            def contrast(params: Tree) -> jax.Array:
                objective = free_objective(energy, params, x)
                inner = inner_transition(objective, free.states, adjoint)
                return loss_of(params, free.states, targets) + inner

            loss = loss_of(params, free.states, targets)
            solve = Solution(adjoint, jnp.zeros((), jnp.int32), residual)
            return loss, jax.grad(contrast)(params), Aux(free, solve)

        return estimate

    def adjoint(self, objective: Objective, slope: Tree, states: Tree) -> tuple[Tree, jax.Array]:
        """λ at `states`, and the relative residual of the system that was solved."""
        rising = all(is_rising(sigma) for sigma in objective.activations(states))
        if objective.symmetric and rising:
            return self._symmetric(objective, slope, states)
        return self._as_it_stands(objective, slope, states)

    def _symmetric(self, objective: Objective, slope: Tree, states: Tree):
        drive = jax.grad(objective.value)
        root = _root_slopes(objective, drive(states))

        def times_root(tree: Tree) -> Tree:
            return jax.tree.map(jnp.multiply, root, tree)

        def hessian(tree: Tree) -> Tree:
            return jax.jvp(drive, (states,), (tree,))[1]

        def matrix(u: Tree) -> Tree:
            return jax.tree.map(jnp.subtract, u, times_root(hessian(times_root(u))))

        right = times_root(slope)
        u, _ = jax.scipy.sparse.linalg.cg(matrix, right, tol=self.tol, maxiter=self.steps)
        # λ = ∂L/∂ξ + H D λ, where D λ = D½ u.
        adjoint = jax.tree.map(jnp.add, slope, hessian(times_root(u)))
        return adjoint, relative_residual(matrix(u), right)

    def _as_it_stands(self, objective: Objective, slope: Tree, states: Tree):
        _, pull = jax.vjp(_transition(objective, states), states)

        def matrix(adjoint: Tree) -> Tree:
            return jax.tree.map(jnp.subtract, adjoint, pull(adjoint)[0])

        solve = jax.scipy.sparse.linalg.bicgstab
        adjoint, _ = solve(matrix, slope, tol=self.tol, maxiter=self.steps)
        return adjoint, relative_residual(matrix(adjoint), slope)


@dataclasses.dataclass(frozen=True)
class Backprop:
    """Backpropagation through the initial states, for an energy that starts at its equilibrium.

    There dL/dw = d/dw L(w, ξ(w)) with ξ = `init_states`, the forward pass of a predictive coding
    net. A `start` is not used: its derivative in w is not known.
    """

    free: Solver | int = Settled()

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See `estimators`: (params, (x, targets), key, start=None) -> (loss, grads, Aux)."""

        def estimate(params: Tree, batch: Batch, key: jax.Array, start: Tree | None = None):
            x, targets = batch

            def loss_of(params: Tree):
                states = begin(energy, params, x, jax.random.split(key)[0], None)
                return mean_loss(energy, params, states, targets), states

            (loss, states), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            nothing = jnp.zeros((), loss.dtype)
            return loss, grads, Aux(Solution(states, jnp.zeros((), jnp.int32), nothing))

        return estimate


def inner_transition(objective: Objective, states: Tree, adjoint: Tree) -> jax.Array:
    """<F(ξ), λ>, whose gradient in what F depends on is the loss's through the equilibrium ξ."""
    moved = _transition(objective, states)(states)
    inner = jax.tree.map(lambda a, b: jnp.sum(a * b), moved, adjoint)
    return functools.reduce(jnp.add, jax.tree.leaves(inner))


def _transition(objective: Objective, states: Tree) -> Sweep:
    return Sweep.over(objective, states, "synchronous")


def _root_slopes(objective: Objective, arguments: Tree) -> Tree:
    """sqrt(σ') of each unit at its argument ∂Φ/∂ξ."""
    leaves, tree = jax.tree.flatten(arguments)

    def root(activation, argument):
        _, slope = jax.jvp(activation, (argument,), (jnp.ones_like(argument),))
        return jnp.sqrt(slope)

    pairs = zip(objective.activations(arguments), leaves, strict=True)
    return jax.tree.unflatten(tree, [root(*pair) for pair in pairs])
