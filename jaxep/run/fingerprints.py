"""The leaves of a saved state: names, what tells them from damaged ones, and the way back."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxep.run.errors import CheckpointError

PyTree = Any


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
    there = {name: text.rpartition(" ")[0] for name, text in leaves.items()}
    here = {name: layout(leaf) for name, leaf in named_leaves(template).items()}
    for name in here if partial else {**here, **there}:
        old, new = there.get(name, "absent"), here.get(name, "absent")
        if old != new:
            raise CheckpointError(
                f"{checkpoint} is the state of another network: {name} is {old} there, {new} here"
            )


def like(template: Any, array: np.ndarray) -> Any:
    if isinstance(template, (bool, int, float, complex)):
        return array.item()
    if isinstance(template, (np.ndarray, np.generic)):
        return array
    # An array that was free to follow others to their devices stays so.
    committed = getattr(template, "committed", True)
    return jax.device_put(array, getattr(template, "sharding", None) if committed else None)
