"""The leaves of a saved state: names, what tells them from damaged ones, and the way back."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxep.run.errors import CheckpointError

PyTree = Any
OLDER = (
    "made by an older jaxep, whose checkpoints have another layout: train again in another "
    "directory, or go on with that version"
)
# Leaves of a network that were named by the positions of its layers.
_OLDER = re.compile(r"(params\.|opt_state\..*)?layers\.\d+\.")


def named_leaves(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def layout(leaf: Any) -> str:
    leaf = leaf if hasattr(leaf, "shape") else np.asarray(leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def fingerprints(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Type, shape and CRC-32 of every leaf, e.g. "float32[3,4] 1a2b3c4d"."""

    def crc(leaf: Any) -> int:
        return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)

    return {name: f"{layout(leaf)} {crc(leaf):08x}" for name, leaf in leaves.items()}


def check_layout(
    checkpoint: os.PathLike[str], leaves: Mapping[str, str], template: PyTree, partial: bool
) -> None:
    """Compares what a checkpoint holds with what is asked of it.

    Args:
      checkpoint: for the words of an error.
      leaves: its fingerprints by name.
      template: tree of arrays, or of their shapes and types.
      partial: the checkpoint may hold more.

    Raises:
      CheckpointError: they differ; says whether it is another network, a part of the state,
        numbers of another precision, or an older version of this library.
    """
    there = {name: text.rpartition(" ")[0] for name, text in leaves.items()}
    here = {name: layout(leaf) for name, leaf in named_leaves(template).items()}
    pairs = {
        name: (there.get(name, "absent"), here.get(name, "absent"))
        for name in (here if partial else {**here, **there})
    }
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if not differing:
        return
    if any(map(_OLDER.match, there)) and not any(map(_OLDER.match, here)):
        raise CheckpointError(f"{checkpoint} is {OLDER}")
    missing = set(map(_part, differing))
    if missing.isdisjoint(map(_part, there)):
        raise CheckpointError(
            f"{checkpoint} holds a part of the state, as `Run.export` writes it, and no "
            f"{', '.join(sorted(missing))}: "
            "training cannot go on from there"
        )
    others = {n: pair for n, pair in differing.items() if len(set(map(_narrowed, pair))) > 1}
    name, (old, new) = next(iter((others or differing).items()))
    if not others:
        raise CheckpointError(
            f"{checkpoint} was saved with JAX_ENABLE_X64 {'on' if '64[' in old else 'off'}: {name} "
            f"is {old} there, {new} here"
        )
    raise CheckpointError(
        f"{checkpoint} is the state of another network: {name} is {old} there, {new} here"
    )


def _part(name: str) -> str:
    """The part of a state that a leaf is of, by the leaf's name."""
    return name.split(".")[0]


def _narrowed(layout: str) -> str:
    """A layout with the types that JAX has without 64-bit numbers."""
    return layout.replace("128[", "64[").replace("64[", "32[")


def like(template: Any, array: np.ndarray) -> Any:
    if isinstance(template, (bool, int, float, complex)):
        return array.item()
    if isinstance(template, (np.ndarray, np.generic)):
        return array
    # An array that was free to follow others to their devices stays so.
    committed = getattr(template, "committed", True)
    return jax.device_put(array, getattr(template, "sharding", None) if committed else None)
