"""Event-driven phases: neurons send quantised changes of their states, and at rest nothing.

    m = q round((ξ - s)/q),  s <- s + m,  ξ_k <- σ(∂Φ_Aug/∂ξ_k (ξ_k, s of the others))

The sum s of what a neuron has sent is all that others know of it; what rounding leaves goes into
the next message. This is the code of O'Connor & Welling 2016 (arXiv 1611.02024) in a network with
an energy. The published systems send single bits, and so must average over time (of the last two
the abstracts were read, of the first the code):

- O'Connor, Gavves & Welling 2019 (PMLR 89:1516, "Training a spiking neural network with EP", code
  QUVA-Lab/spiking-equilibrium-prop): the bits are the sigma-delta modulation of
  (ξ_t - (1 - λ) ξ_{t-1})/λ, decoded by u <- (1 - λ) u + λ bits; λ and the step of ξ fall as t^-k,
  which goes on in the nudged phase. The contrast takes the potentials ξ, not the messages.
- Lin, Bal & Sengupta 2024 (arXiv 2405.02546): the same in convolutions. Average pools, since the
  maximum of a pool and its inverse do not fit each other where values are spikes.
- EqSpike (Martin et al. 2021, arXiv 2010.07859): integrate-and-fire neurons, and weights that move
  with the spikes and the change of their rates, a continual EP.

With whole numbers for bits a fixed q needs no average: an annealed one (q = 1/2, 1/4, ..., as 1/t,
to the same 1/60) sent 2.6 times as many messages for the same gradient (digits, average pools).
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.objective import empty_cache
from jaxep.core.solvers import Solution, Solver, relative_residual
from jaxep.core.sweep import Sweep, Tree


@dataclasses.dataclass(frozen=True)
class EventDriven(Solver):
    """`steps` sweeps in which leaves see the messages of each other, not their states.

    A leaf moves from its own exact state. Its units hear each other by messages only where they
    are in different leaves: a Φ that joins units of one leaf, as a max pool does, joins them
    exactly. `states` of the solution are the ξ: with the contrast at ξ the gradient of a first
    convolution had cosine 0.98 to that without events where at s it had 0.63 (q 1/64, digits).

    A phase takes it that s is `states` rounded to multiples of q at its start. So a nudged phase
    of the same q goes on from where the free one has ended, and nothing is sent before something
    changes. Inputs are known and not counted.

    Attributes:
        step: q, the unit of all messages, over 0; q -> 0 is `Fixed`. A power of 2 is exact.

    Raises:
        ValueError: a setting is not one of these.
    """

    tells: ClassVar[tuple[str, ...]] = ("messages",)

    step: float = 1 / 64

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.between("EventDriven: step", self.step, 0, math.inf)

    def iterate(self, sweep: Sweep, states: Tree) -> Solution:
        """`statistics["messages"]`: how many of its own a neuron sent, not those of 0; a mean."""
        own, tree = jax.tree.flatten(states)
        neurons = sum(leaf.size for leaf in own)

        def body(_, carry):
            now, _, sent, messages = carry
            moved, sent, count = self._sweep(sweep, tree, now, sent)
            return moved, now, sent, messages + count / neurons

        start = own, own, [self._rounded(leaf) for leaf in own], jnp.zeros(())
        own, old, _, messages = jax.lax.fori_loop(0, self.steps, body, start)
        residual = relative_residual(own, old, self.relaxation)
        states, steps = jax.tree.unflatten(tree, own), jnp.asarray(self.steps, jnp.int32)
        return Solution(states, steps, residual, {"messages": messages})

    def _sweep(self, sweep: Sweep, tree, own: list, sent: list) -> tuple[list, list, jax.Array]:
        """(ξ, s, number of messages): each block moves, then sends."""
        own, sent, count = list(own), list(sent), jnp.zeros((), jnp.int32)
        for moving in sweep.moves:
            moved = [_moved(sweep, tree, own[index], sent, index) for index in moving]
            for index, state in zip(moving, moved, strict=True):
                message = self._rounded(state - sent[index])
                own[index], sent[index] = state, sent[index] + message
                count += jnp.count_nonzero(message).astype(count.dtype)
        return own, sent, count

    def _rounded(self, values: jax.Array) -> jax.Array:
        return self.step * jnp.round(values / self.step)


def _moved(sweep: Sweep, tree, own: jax.Array, sent: list, index: int) -> jax.Array:
    """The leaf `index`, which is at `own`, after a step of the transition."""
    states = jax.tree.unflatten(tree, [*sent[:index], own, *sent[index + 1 :]])
    # Leaf by leaf: of the derivatives in the others' XLA leaves out what nothing needs.
    (argument,), _ = sweep.objective.drive(states, empty_cache(states), (index,))
    return sweep.relaxed(index, own, argument, states, empty_cache(states))
