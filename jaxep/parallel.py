"""Data parallelism: one batch over all devices of this process, one all-reduce per update.

A CPU counts too: XLA runs a small convolution on one core, so train.py makes every core a device.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

Tree = Any
AXIS = "data"


def mesh_for(batch_size: int) -> Mesh:
    """As many local devices as divide the batch evenly, the most there are."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), (AXIS,))


def mean_over_devices(function: Callable[..., Tree], params: Tree, batch: Tree, *rest: Any) -> Tree:
    """function(params, batch, *rest), which is a mean over the batch, each device on its share.

    Args:
        function: its result must be a tree of means over the batch (gradients, metrics).
        params: the same on every device.
        batch: leaves [batch, ...], cut along the first axis.
        *rest: the same on every device.

    Returns:
        The mean over the devices: equal to one device's result for means over samples, and to the
        devices' mean for quantities of a whole batch (residual and steps of a solver, which stops
        for each share by itself).
    """

    mesh = mesh_for(_size(batch))
    if mesh.size == 1:
        return function(params, batch, *rest)

    def share(params, batch, *rest):
        return jax.lax.pmean(function(params, batch, *rest), AXIS)

    return _split(share, mesh, len(rest), PartitionSpec())(params, batch, *rest)


def samples_over_devices(
    function: Callable[..., Tree], params: Tree, batch: Tree, *rest: Any
) -> Tree:
    """function(params, batch, *rest) with leaves [batch, ...], each device on its share."""
    mesh = mesh_for(_size(batch))
    if mesh.size == 1:
        return function(params, batch, *rest)
    return _split(function, mesh, len(rest), PartitionSpec(AXIS))(params, batch, *rest)


def _size(batch: Tree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _split(function: Callable[..., Tree], mesh: Mesh, others: int, out: PartitionSpec):
    specs = (PartitionSpec(), PartitionSpec(AXIS), *(PartitionSpec(),) * others)
    # No check of what is replicated: it refuses loops whose carry starts as a constant.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
