"""The scalar primitive function, for any Φ and any loss over any pytree of states.

Nothing here knows a network. An `Energy` is a pair of pure functions with the little that the
dynamics need beside them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.activations import hard_sigmoid

Tree = Any


class Dynamics(Protocol):
    """What solvers and estimators ask of a model; `Energy` and `VectorField` are two."""

    @property
    def loss(self) -> Callable[[Tree, Tree, Tree], jax.Array]: ...
    @property
    def init_states(self) -> Callable[[Any, Tree, Tree], Tree]: ...
    @property
    def activation(self) -> Any: ...
    @property
    def blocks(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class FastPhi:
    """A Φ with a faster way to compute it in a loop; as a function it is `phi`.

    Attributes:
        phi: Φ(params, x, states), the definition.
        prepare: (params, x) -> (params, x) for `phi_and_cache`: work that does not depend on the
            states, done once per batch.
        phi_and_cache: (params, x, states, cache) -> (Φ, cache) with the prepared params and x.
            For a Φ whose derivative in a leaf needs something of that leaf that is worth keeping
            while it does not move: `cache` is a list with an entry for each leaf of the states,
            what an earlier call returned for it, or None. Φ and its derivatives must equal those
            of `phi`.
    """

    phi: Callable[[Tree, Tree, Tree], jax.Array]
    prepare: Callable[[Tree, Tree], tuple[Tree, Tree]]
    phi_and_cache: Callable[[Tree, Tree, Tree, list], tuple[jax.Array, list]]

    def __call__(self, params: Tree, x: Tree, states: Tree) -> jax.Array:
        """Φ(params, x, states)."""
        return self.phi(params, x, states)


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: static in `jax.jit`, with dicts too
class Energy:
    """An energy-based model: E(ξ) = 1/2 ||ξ||^2 - Φ(x, ξ, w), and the loss that nudges it.

    Attributes:
        phi: Φ(params, x, states), one value per sample [batch] or their sum; a function, or a
            `FastPhi`. Samples must not interact, and every leaf of `states` leads with the batch.
        loss: L(params, states, targets) -> one value per sample, [batch].
        init_states: (key, params, x) -> the states at the start of the free phase.
        activation: σ, for all states, or a tree of functions that is a prefix of the states' tree;
            a `ContextualActivation` where it needs more than its argument.
        blocks: for alternating sweeps, the number of the block in which each leaf moves: a tree of
            ints that is a prefix of the states' tree. Leaves that interact in Φ may not share a
            block. None: read off Φ, see `core.blocks`.
    """

    phi: Callable[[Tree, Tree, Tree], jax.Array]
    loss: Callable[[Tree, Tree, Tree], jax.Array]
    init_states: Callable[[Any, Tree, Tree], Tree]
    activation: Any = hard_sigmoid
    blocks: Any = None

    def __post_init__(self) -> None:
        checks.takes("Energy: phi", self.phi, "params", "x", "states")
        checks.takes("Energy: loss", self.loss, "params", "states", "targets")
        checks.takes("Energy: init_states", self.init_states, "key", "params", "x")

    def fast(self) -> FastPhi:
        """`phi` as a `FastPhi`; a plain function prepares and keeps nothing."""
        if isinstance(self.phi, FastPhi):
            return self.phi

        def phi_and_cache(params: Tree, x: Tree, states: Tree, cache: list):
            return self.phi(params, x, states), cache

        return FastPhi(self.phi, lambda params, x: (params, x), phi_and_cache)


def phi_aug(
    energy: Energy, params: Tree, x: Tree, states: Tree, targets: Tree, beta: jax.Array | float
) -> jax.Array:
    """Φ_Aug = Φ - β L_Total (eq. 10), summed over the batch: a scalar.

    Args:
        energy: gives Φ and L_Total.
        params: as `energy.phi` takes them.
        x: input, [batch, ...] in each leaf.
        states: ξ, [batch, ...] in each leaf.
        targets: as `energy.loss` takes them.
        beta: nudging factor β; 0 is the free phase.
    """
    batch = checks.batch_size(states)
    phi = energy.phi(params, x, states)
    checks.check_phi(phi, batch)
    return jnp.sum(phi) - beta * total_loss(energy, params, states, targets)


def total_loss(energy: Dynamics, params: Tree, states: Tree, targets: Tree) -> jax.Array:
    """L_Total summed over the batch, a scalar.

    Raises:
        ValueError: the loss is not one value for each sample.
    """
    loss = energy.loss(params, states, targets)
    checks.check_loss(loss, checks.batch_size(states))
    return jnp.sum(loss)


def energy_per_sample(energy: Energy, params: Tree, x: Tree, states: Tree) -> jax.Array:
    """E = 1/2 ||ξ||² - Φ(x, ξ, w) for each sample, [batch].

    Args:
        energy: gives Φ.
        params: as `energy.phi` takes them.
        x: input, [batch, ...] in each leaf.
        states: ξ, [batch, ...] in each leaf.

    Raises:
        ValueError: `phi` returns the sum over the batch.
    """
    batch = checks.batch_size(states)
    squares = (jnp.sum(jnp.square(s).reshape(batch, -1), axis=1) for s in jax.tree.leaves(states))
    return 0.5 * functools.reduce(jnp.add, squares) - phi_per_sample(energy, params, x, states)


def phi_per_sample(energy: Energy, params: Tree, x: Tree, states: Tree) -> jax.Array:
    """Φ(x, ξ, w) for each sample, [batch].

    Raises:
        ValueError: `phi` returns the sum over the batch.
    """
    batch = checks.batch_size(states)
    phi = energy.phi(params, x, states)
    if jnp.shape(phi) != (batch,):
        raise ValueError(f"phi returns {list(jnp.shape(phi))}: must be [{batch}] here")
    return phi


def initial_states(energy: Dynamics, key: jax.Array | None, params: Tree, x: Tree) -> Tree:
    """The states at the start of a free phase, checked.

    Args:
        energy: the model.
        key: one random key for the batch, or one for each sample, [batch]: the start of a sample
            then does not depend on how a batch is cut into shares. None where the start is not
            random.
        params: as `phi` takes them.
        x: the batch of inputs.

    Raises:
        ValueError: the states are not [batch, ...] arrays of as many samples as `x`.
    """
    if key is None or is_one_key(key):
        return checks.check_states(energy.init_states(key, params, x), x)

    checks.one_key_each(key, x)

    def of_one(key, x):
        alone = energy.init_states(key, params, jax.tree.map(lambda leaf: leaf[None], x))
        return jax.tree.map(lambda leaf: leaf[0], alone)

    return checks.check_states(jax.vmap(of_one)(key, x), x)


def begin(
    energy: Dynamics, params: Tree, x: Tree, key: jax.Array | None, start: Tree | None
) -> Tree:
    """The checked states at the start of a free phase: `start`, or `initial_states` where None."""
    if start is None:
        return initial_states(energy, key, params, x)
    return checks.check_states(start, x)


def is_one_key(key: jax.Array) -> bool:
    """Whether it is one random key, typed or the raw numbers of `jax.random.PRNGKey`."""
    return jnp.ndim(key) == (0 if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)
