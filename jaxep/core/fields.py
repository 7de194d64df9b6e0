"""Vector fields: dynamics ξ <- σ(G(x, ξ, w)) without an energy, and EP that is exact for any G.

With A = ∂G/∂ξ and D = σ' at the free equilibrium ξ* = σ(G(ξ*)), the implicit function theorem says

    dL/dw = ∂L/∂w + <μ, ∂G/∂w>,   μ = D (Aᵀ μ + ∂L/∂ξ)

A nudged phase ξ <- σ(G(ξ) - β ∂L/∂ξ) moves the states by dξ/dβ = δ = D (A δ - ∂L/∂ξ), which is -μ
where A is symmetric, as it is for G = ∂Φ/∂ξ. The contrast ∂L/∂w - <δ, ∂G/∂w> is the naive one
(Scellier et al. 2018, arXiv 1808.04873; `VF` of Laborieux et al. 2021, arXiv 2006.03824): biased
where A is not symmetric. Nudged phases of

    ξ <- σ(G(ξ) + (Aᵀ - A)(ξ - ξ*) - β ∂L/∂ξ)

have Aᵀ in the place of A around ξ*, so that δ = -μ: the same contrast is then exact for any G, at
one product with A and one with Aᵀ a step (Scurria et al. 2026, arXiv 2602.03670). They correct the
force of dξ/dt = F(ξ) by the Jacobian of F, which for F = σ(G) - ξ is a term outside of σ; within σ
the states stay in its range, and an A that is symmetric leaves the energy's own phase. Near ξ*
these phases settle as fast as the free one does: D Aᵀ has the eigenvalues of D A. D must be
symmetric: σ acts on each unit by itself, or is a gradient, as softmax is.

With the stencils of `holomorphic` the naive contrast is the generalised holomorphic EP of Laborieux
& Zenke 2024 (arXiv 2309.02214), and β may be large for the exact one too.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import blocks, checks
from jaxep.core.activations import ContextualActivation, hard_sigmoid
from jaxep.core.energy import Dynamics, total_loss
from jaxep.core.estimators import EP, Batch, ValueAndGrad, ep_gradient
from jaxep.core.objective import Objective, Tree, free_objective, once_of_shapes
from jaxep.core.solvers import Solution
from jaxep.core.stencils import Stencil


def _as_they_are(params: Tree, x: Tree) -> tuple[Tree, Tree]:
    return params, x


@dataclasses.dataclass(frozen=True, eq=False)  # by identity, as an `Energy`
class VectorField:
    """A model whose states move to σ(G(x, ξ, w)), where G need not be a gradient.

    Solvers, `EP`, `BPTT` and `Implicit` take it in the place of an `Energy`.

    Attributes:
        field: G(params, x, states) -> a tree like the states, the arguments of σ. Samples must not
            interact, and every leaf of the states leads with the batch.
        loss: as of an `Energy`: L(params, states, targets) -> [batch].
        init_states: as of an `Energy`: (key, params, x) -> states.
        activation: σ, as of an `Energy`; EP takes no `ContextualActivation` here.
        blocks: as of an `Energy`; None: read off G. Leaves interact where one needs the other.
        prepare: (params, x) -> (params, x) as `field` takes them: work that does not depend on the
            states, done once per batch.
    """

    field: Callable[[Tree, Tree, Tree], Tree]
    loss: Callable[[Tree, Tree, Tree], jax.Array]
    init_states: Callable[[Any, Tree, Tree], Tree]
    activation: Any = hard_sigmoid
    blocks: Any = None
    prepare: Callable[[Tree, Tree], tuple[Tree, Tree]] = _as_they_are

    def __post_init__(self) -> None:
        checks.takes("VectorField: field", self.field, "params", "x", "states")
        checks.takes("VectorField: loss", self.loss, "params", "states", "targets")
        checks.takes("VectorField: init_states", self.init_states, "key", "params", "x")
        checks.takes("VectorField: prepare", self.prepare, "params", "x")

    @property
    def phi(self) -> Any:
        """There is none, and what needs a Φ says so."""
        raise ValueError(
            "a VectorField has no Φ: solvers, EP, FieldEP, BPTT and Implicit take it, and nothing "
            "else that takes an Energy"
        )

    def arguments(self, params: Tree, x: Tree, states: Tree) -> Tree:
        """G(x, ξ, w), the arguments of σ, with what is prepared of parameters and inputs.

        Raises:
            ValueError: `field` returns no tree like the states.
        """
        found = self.field(params, x, states)
        given, wanted = _shapes(found), _shapes(states)
        if given != wanted:
            raise ValueError(f"field returns {given}: must be like the states, {wanted}")
        return jax.tree.map(lambda drive, leaf: drive.astype(leaf.dtype), found, states)


def _shapes(tree: Tree) -> str:
    """The shape of each leaf by name, as in "u [4, 6], v [4, 3]"."""
    leaves = zip(checks.leaf_names(tree), jax.tree.leaves(tree), strict=True)
    return ", ".join(f"{name} {list(jnp.shape(leaf))}" for name, leaf in leaves)


@dataclasses.dataclass(frozen=True, eq=False)
class FieldObjective(Objective):
    """What a phase of a vector field moves along: the arguments of σ as a function of the states.

    Attributes:
        along: states -> the arguments of σ, a tree like them.
        corrected: whether nudged phases are corrected by (Aᵀ - A)(ξ - ξ*).
    """

    along: Callable[[Tree], Tree] = dataclasses.field(kw_only=True)
    corrected: bool = True

    def value(self, states: Tree) -> jax.Array:
        """There is none.

        Raises:
            ValueError: says so.
        """
        raise ValueError("a VectorField has no Φ whose value could be asked for")

    def defining(self) -> tuple[str, Callable[[Tree], Tree]]:
        """The field, see `Objective.defining`."""
        return "field", self.along

    def drive(self, states: Tree, cache: list, moving: tuple[int, ...]) -> tuple[list, list]:
        """G of some leaves, the arguments of their σ; see `Objective.drive`. Keeps nothing."""
        leaves = jax.tree.leaves(self.along(states))
        return [leaves[index] for index in moving], cache

    def anchored(self, free: Tree) -> Objective:
        """The field whose Jacobian at the free equilibrium is Aᵀ, where it is to be corrected.

        Raises:
            ValueError: σ sees more than its argument.
        """
        if any(isinstance(sigma, ContextualActivation) for sigma in self.activations(free)):
            raise ValueError(
                "VectorField: activation: EP needs a σ of its argument alone, as what else a "
                "ContextualActivation sees would be part of the Jacobian"
            )
        if not self.corrected:
            return self
        push = jax.linearize(self.along, free)[1]
        pull = jax.vjp(self.along, free)[1]

        def along(states: Tree) -> Tree:
            moved = jax.tree.map(jnp.subtract, states, free)
            terms = self.along(states), pull(moved)[0], push(moved)
            return jax.tree.map(lambda drive, wanted, own: drive + wanted - own, *terms)

        return dataclasses.replace(self, along=along)

    def nudged(self, targets: Tree, betas: jax.Array, from_equilibrium: bool = False) -> Objective:
        """Several nudged phases of G(ξ) - β ∂L/∂ξ, run as one batch; see `Objective.nudged`."""

        def loss(states: Tree) -> jax.Array:
            # Of a holomorphic L the gradient of the real part is the complex derivative.
            return jnp.real(total_loss(self.energy, self.params, states, targets))

        def phase(states: Tree, beta: jax.Array) -> Tree:
            def lowered(drive: jax.Array, slope: jax.Array) -> jax.Array:
                return drive - beta.astype(slope.dtype) * slope

            return jax.tree.map(lowered, self.along(states), jax.grad(loss)(states))

        several = super().nudged(targets, betas, from_equilibrium)
        assert isinstance(several, FieldObjective)
        return dataclasses.replace(
            several,
            value_and_cache=self.value_and_cache,
            along=lambda states: jax.vmap(phase)(states, betas),
        )


@free_objective.register
def _(energy: VectorField, params: Tree, x: Tree) -> Objective:
    prepared = energy.prepare(params, x)

    def graph(states: Tree):
        def drive(x: Tree, states: Tree) -> Tree:
            return energy.arguments(prepared[0], x, states)

        return blocks.dependencies(drive, prepared[1], states)

    def keeps_nothing(states: Tree, cache: list):
        return jnp.zeros(()), cache

    return FieldObjective(
        energy,
        params,
        prepared,
        keeps_nothing,
        once_of_shapes(graph),
        symmetric=False,
        along=functools.partial(energy.arguments, *prepared),
    )


@ep_gradient.register
def _(
    energy: VectorField,
    params: Tree,
    batch: Batch,
    free: Tree,
    nudged: Tree,
    stencil: Stencil,
    beta: jax.Array,
) -> Tree:
    """∂L/∂w - <δ, ∂G/∂w> at ξ*, averaged over the batch, with δ = Re Σ_m c_m ξ^{p_m β} / β."""
    # States in bfloat16 have moved by what float32 tells apart.
    x, free, nudged = jax.tree.map(_widened, (batch[0], free, nudged))
    weights = [
        weight for point, weight in zip(stencil.points, stencil.weights, strict=True) if point
    ]

    def moved(nudged: jax.Array, free: jax.Array) -> jax.Array:
        # Σ c_m = 0: the free states drop out, which leaves sums of small numbers.
        shares = jnp.asarray(weights, nudged.dtype).reshape(-1, *(1,) * free.ndim)
        change = shares * (nudged - free.astype(nudged.dtype))
        return jnp.real(jnp.sum(change, axis=0)) / beta.astype(free.dtype)

    delta = jax.tree.map(moved, nudged, free)

    def contrast(params: Tree) -> jax.Array:
        drive = energy.arguments(*energy.prepare(params, x), free)
        inner = jax.tree.map(lambda d, g: jnp.sum(d * g), delta, drive)
        loss = total_loss(energy, params, free, batch[1])
        return (loss - sum(jax.tree.leaves(inner))) / checks.batch_size(free)

    return jax.grad(contrast)(params)


def _widened(leaf: jax.Array) -> jax.Array:
    inexact = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return leaf.astype(jnp.result_type(leaf, jnp.float32)) if inexact else leaf


@dataclasses.dataclass(frozen=True)
class FieldEP(EP):
    """EP of a `VectorField`, exact or naive; `EP` itself is the exact one.

    Attributes:
        corrected: nudged phases have Aᵀ in the place of A; else they are the field's own, and the
            gradient is biased by what of A is not symmetric (Scellier 2018).
    """

    corrected: bool = True

    def value_and_grad(self, energy: Dynamics) -> ValueAndGrad:
        """See `estimators`: (params, (x, targets), key, start=None) -> (loss, grads, Aux).

        Raises:
            ValueError: `energy` is no `VectorField`.
        """
        if not isinstance(energy, VectorField):
            given = type(energy).__name__
            raise ValueError(f"FieldEP takes a VectorField, not a {given}: EP takes an Energy")
        return super().value_and_grad(energy)

    def nudged(self, objective: Any, free: Tree, targets: Tree, beta: jax.Array) -> Solution:
        """The nudged phases from the free equilibrium, see `EP.nudged`."""
        objective = dataclasses.replace(objective, corrected=self.corrected)
        return super().nudged(objective, free, targets, beta)


def asymmetry(field: VectorField, params: Tree, x: Tree, states: Tree, key: jax.Array) -> jax.Array:
    """1/2 ||A - Aᵀ||² of each sample, [batch], estimated without bias by one random direction.

    E_ε[||A ε||² - <ε, A A ε>] with a standard normal ε: what Jacobian homeostasis adds to the loss,
    at states that are held (Laborieux & Zenke 2024, arXiv 2309.02214, eq. 12).

    Args:
        field: the model.
        params: as `field` takes them.
        x: the batch of inputs.
        states: where A is taken, as a rule the free equilibrium.
        key: of ε.
    """
    batch = checks.batch_size(states)
    along = functools.partial(field.arguments, *field.prepare(params, x))
    push = jax.linearize(along, states)[1]
    leaves, tree = jax.tree.flatten(states)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    once = push(jax.tree.unflatten(tree, drawn))
    pairs = zip(jax.tree.leaves(once), drawn, jax.tree.leaves(push(once)), strict=True)
    terms = [jnp.square(a) - e * aa for a, e, aa in pairs]
    return functools.reduce(jnp.add, [jnp.sum(t.reshape(batch, -1), axis=1) for t in terms])
