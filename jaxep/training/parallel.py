"""Data parallelism: one batch over all devices of all processes, one all-reduce per update.

A CPU counts too: XLA runs a small convolution on one core, so train.py makes every core a device.
Every process holds the data set and the same random keys, and puts on its devices its share of
each batch; parameters are the same everywhere.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxep.run.errors import PeerError, SettingsError, reason

Tree = Any
AXIS = "data"
# On a CPU, images that settle at once. VGG-13 at batch 128 so takes 383 MB; with 32 it takes 495 MB
# and VGG-7 was 7 % faster.
DEFAULT_SHARE = 16
# A process whose socket closes is missed at once; these seconds are for a machine that vanishes
# without a word. One that is only paused for a while must not be taken for dead: with 20 it was.
HEARTBEAT_SECONDS = 60
# How long the first processes of a run wait for the last one.
START_SECONDS = 120


def join(coordinator: str, process_id: int | None, num_processes: int | None) -> None:
    """Makes this process one of a run's; before any use of a device.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" for a cluster that JAX detects.
        process_id: number of this process, from 0; None under "auto".
        num_processes: how many there are; None under "auto".

    Raises:
        PeerError: the processes do not find each other, or no cluster is detected.
    """
    # Its own SIGTERM handler would take the place of the run's.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            num_processes,
            process_id,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise PeerError(f"--coordinator {coordinator}: {reason(error)}") from error


def mesh_for(batch_size: int) -> Mesh:
    """As many devices of each process as divide the batch evenly, the most there are.

    Raises:
        SettingsError: the batch cannot be cut by the processes.
    """
    processes = jax.process_count()
    if batch_size % processes:
        allowed = f"must be a multiple of the number of processes, {processes}"
        raise SettingsError(f"config.batch_size = {batch_size}: {allowed}")
    groups = [jax.local_devices(process_index=process) for process in range(processes)]
    most = min(len(group) for group in groups)
    count = max(n for n in range(1, most + 1) if batch_size % (n * processes) == 0)
    return Mesh(np.array([device for group in groups for device in group[:count]]), (AXIS,))


def uncut_mesh() -> Mesh:
    """One device of each process, for a batch that is not cut: all do the same."""
    processes = range(jax.process_count())
    devices = [jax.local_devices(process_index=process)[0] for process in processes]
    return Mesh(np.array(devices), (AXIS,))


def mean_over_devices(
    function: Callable[..., Tree], params: Tree, batch: Tree, *rest: Any, mesh: Mesh | None = None
) -> Tree:
    """function(params, batch, *rest), which is a mean over the batch, each device on its share.

    Args:
        function: its result must be a tree of means over the batch (gradients, metrics).
        params: the same on every device.
        batch: leaves [batch, ...], cut along the first axis.
        *rest: the same on every device.
        mesh: of devices whose number divides the batch; None: `mesh_for` it.

    Returns:
        The mean over the devices: equal to one device's result for means over samples, and to the
        devices' mean for quantities of a whole batch (residual and steps of a solver, which stops
        for each share by itself). NaN and Inf on one device are so on all.
    """
    mesh = mesh or mesh_for(_size(batch))
    if mesh.size == 1:
        return function(params, batch, *rest)

    def share(params, batch, *rest):
        return jax.lax.pmean(function(params, batch, *rest), AXIS)

    return _split(share, mesh, len(rest), PartitionSpec())(params, batch, *rest)


def samples_over_devices(
    function: Callable[..., Tree], params: Tree, batch: Tree, *rest: Any, mesh: Mesh | None = None
) -> Tree:
    """function(params, batch, *rest) with leaves [batch, ...], each device on its share.

    A given `mesh` need not divide the batch: its last sample is repeated, and what comes of the
    repetitions is dropped. A run so keeps to one set of devices.
    """
    mesh = mesh or mesh_for(_size(batch))
    if mesh.size == 1:
        return function(params, batch, *rest)
    size = _size(batch)
    filled = np.minimum(np.arange(math.ceil(size / mesh.size) * mesh.size), size - 1)
    batch = jax.tree.map(lambda leaf: leaf[filled], batch) if len(filled) > size else batch
    result = _split(function, mesh, len(rest), PartitionSpec(AXIS))(params, batch, *rest)
    return jax.tree.map(lambda leaf: leaf[:size], result)


def mean_over_shares(
    function: Callable[..., Tree], largest: int, params: Tree, batch: Tree, *rest: Any
) -> Tree:
    """function(params, batch, *rest), a mean over the batch, on one share of it after the other.

    The memory that a share needs is needed once. On a CPU it costs no time.

    Args:
        function: as for `mean_over_devices`.
        largest: samples of a share at most; 0 for `DEFAULT_SHARE` on a CPU, and no limit elsewhere.
        params: the same for every share.
        batch: leaves [batch, ...], cut along the first axis into equal shares.
        *rest: the same for every share.
    """
    size = _size(batch)
    if largest == 0:
        largest = DEFAULT_SHARE if jax.default_backend() == "cpu" else size
    share = max(n for n in range(1, min(size, largest) + 1) if size % n == 0)
    if share == size:
        return function(params, batch, *rest)
    shares = jax.tree.map(lambda leaf: leaf.reshape(-1, share, *leaf.shape[1:]), batch)

    def add(total: Tree, own: Tree) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, total, function(params, own, *rest)), None

    shapes = jax.eval_shape(function, params, jax.tree.map(lambda leaf: leaf[0], shares), *rest)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, shares)
    return jax.tree.map(lambda leaf: leaf / (size // share), total)


def _size(batch: Tree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _split(function: Callable[..., Tree], mesh: Mesh, others: int, out: PartitionSpec):
    specs = (PartitionSpec(), PartitionSpec(AXIS), *(PartitionSpec(),) * others)
    # No check of what is replicated: it refuses loops whose carry starts as a constant.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)


def is_first() -> bool:
    """Whether this is process 0, the one that writes."""
    return jax.process_index() == 0


def replicated(tree: Tree, mesh: Mesh) -> Tree:
    """`tree`, which is equal in all processes, on every device of the mesh.

    Once, before the first update: arrays that lie elsewhere are copied at each call of a jitted
    function, and it is compiled a second time for what it gave back the first time.
    """
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(place, tree)


def on_host(tree: Tree) -> Tree:
    """Copies for a writer that knows nothing of other processes; `tree` in a single process."""
    return tree if jax.process_count() == 1 else jax.tree.map(np.array, tree)


def is_lost_peer(error: Exception) -> bool:
    """Whether an error of a computation tells of another process: a status of XLA's runtime.

    It comes as one type or another, by where in JAX it is noticed.
    """
    return bool(re.match(r"[A-Z_]+: ", str(error)))


def from_first(tree: Tree) -> Tree:
    """The numbers of process 0, bit for bit, in all processes; as it is in a single process."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    values = [np.asarray(leaf, order="C") for leaf in leaves]
    # As bytes: the sum that carries them would make 0.0 of -0.0 in the others.
    sent = multihost_utils.broadcast_one_to_all([v.reshape(-1).view(np.uint8) for v in values])
    pairs = zip(sent, values, strict=True)
    got = [np.asarray(raw).view(value.dtype).reshape(value.shape) for raw, value in pairs]
    return jax.tree.unflatten(structure, got)


def must_agree(facts: Mapping[str, Any]) -> None:
    """Compares what must be the same in all processes of a run; does nothing in a single one.

    Args:
        facts: JSON values by the names that an error gives them.

    Raises:
        SettingsError: in all processes alike, naming each fact that differs and its values.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(facts, sort_keys=True).encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    # Of one length whatever the facts are: what is gathered must be of one shape.
    heads = multihost_utils.process_allgather((digest, np.asarray(len(text))))
    if np.all(heads[0] == heads[0][0]):
        return
    padded = np.frombuffer(text.ljust(int(np.max(heads[1]))), np.uint8)
    texts = multihost_utils.process_allgather(padded)
    each = [json.loads(bytes(row)) for row in np.asarray(texts)]
    differing = []
    for name in sorted({name for own in each for name in own}):
        values = [json.dumps(own.get(name, "absent")) for own in each]
        other = next((i for i, value in enumerate(values) if value != values[0]), 0)
        if other:
            differing.append(f"{name} = {values[0]} in process 0, {values[other]} in {other}")
    raise SettingsError(f"the processes of a run must be equal: {'; '.join(differing)}")


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process: all learn the same answer."""
    if jax.process_count() == 1:
        return flag
    flags: Sequence[Any] = multihost_utils.process_allgather(np.asarray(flag))
    return bool(np.any(flags))
