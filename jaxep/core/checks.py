"""What is checked where an object is made or a function is traced: a sentence for each."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


def is_number(value: Any) -> bool:
    """Whether `value` is a plain number; a traced one is not, and is not looked at."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """The number that an array of no axes holds; anything else as it is."""
    array = isinstance(value, (jax.Array, np.ndarray)) and not isinstance(value, jax.core.Tracer)
    return value.item() if array and not value.ndim else value


def is_integer(value: Any) -> bool:
    """Whether `value` is an integer, traced or not."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    scalar = isinstance(value, jax.Array) and not value.ndim
    return whole or (scalar and jnp.issubdtype(value.dtype, jnp.integer))


def at_least_one(name: str, value: Any) -> None:
    """Refuses a count that is no integer over 0; a traced count passes.

    Raises:
        ValueError: a sentence with name, value and what is allowed.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name} = {value!r}: must be an integer of at least 1")


def takes(name: str, function: Any, *arguments: str) -> None:
    """Refuses what is no function of just these arguments, by position."""
    if not callable(function):
        raise ValueError(f"{name} = {function!r}: must be a function")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # written in C: it does not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(arguments)
        raise ValueError(f"{name} takes {signature}: must take ({wanted})") from error


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuses a word that is not one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(allowed)}")


def between(name: str, value: Any, low: float, high: float) -> None:
    """Refuses what is no number over `low` and under `high`; a traced one passes."""
    if isinstance(value, jax.core.Tracer):
        return
    value = plain(value)
    if not is_number(value) or not low < value < high:
        under = f" and under {high:g}" if math.isfinite(high) else ""
        raise ValueError(f"{name} = {value!r}: must be a number over {low:g}{under}")


def finite_not_zero(name: str, value: Any) -> None:
    """Refuses 0 and what is no finite number; a traced one passes."""
    if isinstance(value, jax.core.Tracer):
        return
    value = plain(value)
    if not is_number(value) or not value or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r}: must be a finite number, not 0")


def leaf_names(tree: Tree) -> list[str]:
    """The path of each leaf, as in "blocks.0.conv"; "states" where the tree is one leaf."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    return [jax.tree_util.keystr(p, simple=True, separator=".") or "states" for p in paths]


def per_leaf(name: str, prefix: Tree, states: Tree) -> list:
    """The leaf of `prefix` that stands over each leaf of `states`, in the order of the leaves.

    Raises:
        ValueError: `prefix` is no prefix of the states' tree.
    """
    try:
        full = jax.tree.map(lambda leaf, below: jax.tree.map(lambda _: leaf, below), prefix, states)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{name} does not fit the states: it must be one for all, or a tree over "
            f"{', '.join(leaf_names(states))} ({str(error).splitlines()[0]})"
        ) from error
    return jax.tree.leaves(full)


def batch_size(states: Tree) -> int:
    """Samples of a batch of states, whose leaves all lead with it.

    Raises:
        ValueError: there are no states, or a leaf has no batch axis or another one.
    """
    leaves = jax.tree.leaves(states)
    if not leaves:
        raise ValueError("init_states gives no states: at least one array is needed")
    shapes = [jnp.shape(leaf) for leaf in leaves]
    for name, shape in zip(leaf_names(states), shapes, strict=True):
        if not shape or shape[0] != (shapes[0] or (None,))[0]:
            first = leaf_names(states)[0]
            raise ValueError(
                f"states: {name} is {list(shape)} and {first} {list(shapes[0])}: each must be "
                "[batch, ...], with the same batch"
            )
    return shapes[0][0]


def check_states(states: Tree, x: Tree) -> Tree:
    """`states`, floating, and as many samples as `x` where its leaves agree on a number.

    Raises:
        ValueError: a sentence that names the leaf and both shapes.
    """
    batch = batch_size(states)
    for name, leaf in zip(leaf_names(states), jax.tree.leaves(states), strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(f"states: {name} is {jnp.result_type(leaf)}: must be floating")
    sizes = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x) if jnp.ndim(leaf)}
    if len(sizes) == 1 and sizes != {batch}:
        raise ValueError(
            f"states: {leaf_names(states)[0]} has a batch of {batch}, x one of {sizes.pop()}"
        )
    return states


def one_key_each(keys: jax.Array, x: Tree) -> None:
    """Refuses keys of the samples that are not as many as `x` has."""
    for leaf in jax.tree.leaves(x):
        if jnp.shape(leaf)[:1] != keys.shape[:1]:
            raise ValueError(
                f"keys of the initial states: {len(keys)} for x of {list(jnp.shape(leaf))}: must "
                "be one for the batch, or one for each sample"
            )


def check_phi(phi: jax.Array, batch: int) -> None:
    """Refuses a Φ that is neither one value for each sample nor their sum."""
    if jnp.shape(phi) not in ((), (batch,)):
        raise ValueError(
            f"phi returns {list(jnp.shape(phi))}: must be one value for each sample, [{batch}], "
            "or their sum, []"
        )


def check_loss(loss: jax.Array, batch: int) -> None:
    """Refuses a loss that is not one value for each sample.

    A mean over the batch would make EP's gradients too small by the size of the batch.
    """
    if jnp.shape(loss) != (batch,):
        raise ValueError(
            f"loss returns {list(jnp.shape(loss))}: must be one value for each sample, [{batch}]; "
            "the mean over the batch is taken by the estimator"
        )
