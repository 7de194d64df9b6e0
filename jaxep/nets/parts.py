"""The parts of a network: clamped inputs, layers of neurons, and the edges that join them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.activations import hard_sigmoid
from jaxep.nets.couplings import Coupling

Shape = tuple[int, ...]
STARTS = ("zeros", "uniform")


@dataclasses.dataclass(frozen=True)
class Input:
    """A clamped input.

    Attributes:
        name: of its own in the network.
        shape: without the batch.
    """

    name: str
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of neurons.

    Attributes:
        name: of its own in the network.
        shape: without the batch.
        activation: σ.
        bias: whether it has a bias <ξ, b> of its own, beside those within its couplings: one for
            each channel or unit of the last axis.
    """

    name: str
    shape: Shape
    activation: Any = hard_sigmoid
    bias: bool = False


@dataclasses.dataclass(frozen=True)
class Edge:
    """A coupling <ξ_upper, C(ξ_lower)> between two layers, or an input and a layer.

    Attributes:
        lower: name of the layer or input that C reads.
        upper: name of the layer that C drives.
        coupling: C.
        name: of its parameters; empty: that of `upper`.
        gain: weights start as U(-gain/sqrt(fan_in), gain/sqrt(fan_in)).
    """

    lower: str
    upper: str
    coupling: Coupling
    name: str = ""
    gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.upper)


def first_states(
    shapes: Mapping[str, Shape], key: jax.Array | None, batch: int, start: str, dtype: Any
) -> dict[str, jax.Array]:
    """States before the free phase, [batch, *shape] by name.

    Args:
        shapes: of each layer by name, without the batch.
        key: of a random start; None where it is not random.
        batch: samples.
        start: `zeros`, or `uniform`: U(0, 1).
        dtype: of the states.

    Raises:
        ValueError: the start is neither, or it is random and has no key.
    """
    whole = {name: (batch, *shape) for name, shape in shapes.items()}
    if start == "zeros":
        return {name: jnp.zeros(shape, dtype) for name, shape in whole.items()}
    if start != "uniform":
        raise ValueError(f"init_states = {start!r}: must be one of {', '.join(STARTS)}")
    if key is None:
        raise ValueError("init_states = 'uniform': needs a random key, is given None")
    keys = jax.random.split(key, len(whole))
    return {
        name: jax.random.uniform(k, shape, dtype)
        for k, (name, shape) in zip(keys, whole.items(), strict=True)
    }


def check_parts(inputs: Sequence[Input], layers: Sequence[Layer], edges: Sequence[Edge]) -> None:
    """Refuses parts that are no network.

    Raises:
        ValueError: a name is given twice or is unknown, shapes do not fit, or a layer has no edge.
    """
    parts: list[Input | Layer] = [*inputs, *layers]
    _different("layer or input", [part.name for part in parts])
    _different("edge", [edge.name for edge in edges])
    shapes = {part.name: tuple(part.shape) for part in parts}
    for edge in edges:
        _check_edge(edge, shapes, {layer.name for layer in layers})
    joined = {name for edge in edges for name in (edge.lower, edge.upper)}
    for name in shapes:
        if name not in joined:
            raise ValueError(f"layer {name}: no edge leads to it or from it")


def _check_edge(edge: Edge, shapes: dict[str, Shape], neurons: set[str]) -> None:
    for end in (edge.lower, edge.upper):
        if end not in shapes:
            known = ", ".join(shapes)
            raise ValueError(f"edge {edge.name}: there is no layer {end}; there are {known}")
    if edge.upper not in neurons or edge.lower == edge.upper:
        raise ValueError(f"edge {edge.name}: from {edge.lower} to {edge.upper} is not possible")
    wanted = tuple(edge.coupling.in_shape), tuple(edge.coupling.out_shape)
    given = shapes[edge.lower], shapes[edge.upper]
    if wanted != given:
        raise ValueError(
            f"edge {edge.name}: its coupling is {wanted[0]} -> {wanted[1]}, but {edge.lower} is "
            f"{given[0]} and {edge.upper} {given[1]}"
        )


def _different(kind: str, names: list[str]) -> None:
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"{kind} {name!r}: each needs a name of its own")
