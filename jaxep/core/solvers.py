"""Solvers of the equilibrium ξ = σ(∂Φ_Aug/∂ξ): one interface, `run(objective, states)`.

A solver is a small frozen object, so it can be closed over by a jitted function. All return one
`Solution`; a failure to converge is a value in it, the residual.
"""

import abc
import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.energy import Dynamics, begin
from jaxep.core.objective import Objective, free_objective
from jaxep.core.sweep import ORDERS, Sweep, SweepState, Tree


class Solution(NamedTuple):
    """Where a solver ended.

    Attributes:
        states: the last states.
        steps: sweeps done, an int32 scalar.
        residual: ||F(ξ) - ξ|| / ||ξ|| over the whole batch in the last sweep F, a scalar.
        statistics: scalars by name that a solver tells beside them, means over the batch.
    """

    states: Tree
    steps: jax.Array
    residual: jax.Array
    statistics: dict[str, jax.Array] = {}


def tree_norm(tree: Tree) -> jax.Array:
    """Euclidean norm over all leaves, in float32 at least."""
    wide = [leaf.astype(_wide(leaf)) for leaf in jax.tree.leaves(_as_reals(tree))]
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in wide))


def _wide(*leaves: jax.Array):
    return jnp.finfo(jnp.result_type(jnp.float32, *leaves)).dtype


def _as_reals(tree: Tree) -> Tree:
    """Complex leaves as real ones of one more axis, [2, ...]; others as they are."""

    def real(leaf: jax.Array) -> jax.Array:
        return jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf

    return jax.tree.map(real, tree)


def relative_residual(new: Tree, old: Tree, relaxation: float = 1.0) -> jax.Array:
    """||new - old|| / (ω ||old||): comparable between plain and over-relaxed sweeps."""
    change = tree_norm(jax.tree.map(jnp.subtract, new, old))
    scale = relaxation * tree_norm(old)
    return change / jnp.maximum(scale, jnp.finfo(change.dtype).tiny)


@dataclasses.dataclass(frozen=True)
class Solver(abc.ABC):
    """What all solvers share; `Fixed` and the others say when to stop and how to step.

    Attributes:
        steps: number of sweeps T, or the largest number allowed. Over 0.
        order: "synchronous" or "alternating", see `Sweep`.
        relaxation: ω of over-relaxation, in (0, 2); 1 is the plain transition.

    Raises:
        ValueError: a setting is not one of these.
    """

    # The names of what a solution has as `statistics`.
    tells: ClassVar[tuple[str, ...]] = ()
    # Whether it returns an exact equilibrium.
    is_exact: ClassVar[bool] = False

    steps: int
    order: str = "synchronous"
    relaxation: float = 1.0

    def __post_init__(self) -> None:
        checks.at_least_one(f"{type(self).__name__}: steps", self.steps)
        checks.one_of(f"{type(self).__name__}: order", self.order, ORDERS)
        checks.between(f"{type(self).__name__}: relaxation", self.relaxation, 0, 2)

    def run(self, objective: Objective, states: Tree) -> Solution:
        """Climbs `objective` (Φ or Φ_Aug as a function of the states) from `states`."""
        return self.iterate(Sweep.over(objective, states, self.order, self.relaxation), states)

    @abc.abstractmethod
    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        """Repeats `sweep` from `states`."""


@dataclasses.dataclass(frozen=True)
class Settled(Solver):
    """No sweep at all: for an energy whose initial states are its free equilibrium.

    A forward pass is one in a predictive coding net. The residual told is 0, and not measured. In
    the nudged phases of EP a leaf then rests until the nudge or a leaf with which it interacts in Φ
    has moved: a `ContextualActivation` may depend on no other leaves.
    """

    is_exact: ClassVar[bool] = True

    steps: int = 0

    def __post_init__(self) -> None:
        if self.steps != 0:
            raise ValueError(f"Settled: steps = {self.steps!r}: must be 0")

    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        nothing = jnp.zeros((), _wide(*jax.tree.leaves(states)))
        return Solution(states, jnp.zeros((), jnp.int32), nothing)


@dataclasses.dataclass(frozen=True)
class Fixed(Solver):
    """`steps` sweeps, as in the paper; attributes as of `Solver`."""

    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        early = min(len(sweep.first), self.steps - 1)
        start = sweep.begin(states, early)
        old = jax.lax.fori_loop(early, self.steps - 1, lambda _, at: sweep.step(at), start)
        new = sweep.step(old).states
        steps = jnp.asarray(self.steps, jnp.int32)
        return Solution(new, steps, relative_residual(new, old.states, self.relaxation))


@dataclasses.dataclass(frozen=True)
class Tolerance(Solver):
    """Sweeps until the batch's relative residual is under `tol`, `steps` at most.

    Attributes:
        tol: bound on ||F(ξ) - ξ|| / ||ξ||, dimensionless.
    """

    tol: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.between(f"{type(self).__name__}: tol", self.tol, 0, math.inf)

    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        def advance(states, memory):
            new, memory = sweep.step(SweepState(states, memory))
            return new, memory, relative_residual(new, states, self.relaxation)

        return self._until_converged(advance, *sweep.begin(states))

    def _until_converged(self, advance, states: Tree, memory: Any) -> Solution:
        """The loop of every solver that stops by itself; `memory` is what a method carries."""

        def unfinished(carry):
            solution, _ = carry
            return (solution.residual > self.tol) & (solution.steps < self.steps)

        def body(carry):
            solution, memory = carry
            new, memory, residual = advance(solution.states, memory)
            return Solution(new, solution.steps + 1, residual), memory

        infinite = jnp.asarray(jnp.inf, _wide(*jax.tree.leaves(states)))
        start = Solution(states, jnp.zeros((), jnp.int32), infinite)
        return jax.lax.while_loop(unfinished, body, (start, memory))[0]


def as_solver(solver: Solver | int) -> Solver:
    """`solver`, or `Fixed` of that many synchronous sweeps, as in the paper.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(solver, Solver):
        return solver
    if checks.is_integer(solver):
        return Fixed(solver)
    raise ValueError(f"solver = {solver!r}: must be a solver, or a number of sweeps")


def equilibrium(
    energy: Dynamics,
    solver: Solver | int,
    params: Tree,
    x: Tree,
    key: jax.Array | None = None,
    start: Tree | None = None,
) -> Solution:
    """The free equilibrium ξ = σ(∂Φ/∂ξ) of a batch.

    Args:
        energy: the model.
        solver: of the phase; a number n is `Fixed(n)`.
        params: as `energy.phi` takes them.
        x: the batch of inputs.
        key: of the initial states, where these are random; one, or one for each sample.
        start: states to begin from, in the place of the energy's initial ones.

    Returns:
        States, sweeps done and relative residual.
    """
    states = begin(energy, params, x, key, start)
    return as_solver(solver).run(free_objective(energy, params, x), states)


def _jaxopt():
    with warnings.catch_warnings():
        # jaxopt warns at import that it is no longer maintained; it stays behind this file.
        warnings.simplefilter("ignore")
        import jaxopt
    return jaxopt


def _typed_as(like: Tree, states: Tree) -> Tree:
    """`states` of the types of `like`; of complex leaves there `_as_reals` is undone."""

    def typed(leaf: jax.Array, other: jax.Array) -> jax.Array:
        if jnp.iscomplexobj(other):
            leaf = jax.lax.complex(*leaf)
        return leaf.astype(other.dtype)

    return jax.tree.map(typed, states, like)


@dataclasses.dataclass(frozen=True)
class FixedPointIteration(Tolerance):
    """jaxopt's FixedPointIteration, driven by our loop; attributes as of `Tolerance`."""

    def method(self, sweep: Callable[[Tree], Tree]):
        """The jaxopt solver of `sweep`."""
        return _jaxopt().FixedPointIteration(sweep, implicit_diff=False)

    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        # jaxopt computes in JAX's default type whatever the states have, and in real numbers.
        default = jax.dtypes.canonicalize_dtype(float)
        wide = jax.tree.map(lambda leaf: leaf.astype(default), _as_reals(states))

        def swept(at: Tree) -> Tree:
            return _typed_as(wide, _as_reals(sweep(_typed_as(states, at))))

        method = self.method(swept)

        def advance(states, memory):
            new, memory = method.update(states, memory)
            # jaxopt's error is ||F(y) - y|| at the point y where it evaluated the sweep, which
            # for Anderson is the extrapolated one; jaxopt stops on it, so do we.
            scale = self.relaxation * jnp.maximum(tree_norm(new), jnp.finfo(memory.error).tiny)
            return new, memory, memory.error / scale

        solution = self._until_converged(advance, wide, method.init_state(wide))
        return solution._replace(states=_typed_as(states, solution.states))


@dataclasses.dataclass(frozen=True)
class AndersonAcceleration(FixedPointIteration):
    """jaxopt's AndersonAcceleration of the sweep.

    The first `history` sweeps are plain ones; what it returns is always σ of something.

    Attributes:
        history: number of past iterates that are combined; memory grows by twice as many states.
        ridge: regularisation of the least squares problem.
    """

    history: int = 5
    ridge: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least_one(f"{type(self).__name__}: history", self.history)
        checks.between(f"{type(self).__name__}: ridge", self.ridge, 0, math.inf)

    def method(self, sweep: Callable[[Tree], Tree]):
        """The jaxopt solver of `sweep`."""
        return _jaxopt().AndersonAcceleration(
            sweep, history_size=self.history, ridge=self.ridge, implicit_diff=False
        )
