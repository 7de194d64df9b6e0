"""What the speed benchmarks share: nets, a batch, a clock, and the limit of the machine."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import systems
from benchmarks.shared.runs import Run
from jaxep import Energy
from jaxep.core.objective import free_objective
from jaxep.core.sweep import ORDERS, Sweep
from jaxep.nets.builders import resnet, vgg
from jaxep.nets.couplings import Conv, Coupling, LoweringName
from jaxep.nets.graph import Network
from jaxep.nets.heads import Targets
from jaxep.nets.model import Model
from jaxep.process import prepare_jax
from jaxep.training import data as data_lib
from jaxep.training.settings import Settings


def _without_signals(model: Model) -> Model:
    return Model(model.network, model.heads[:1])


_CIFAR: dict[str, Any] = {"image_shape": (32, 32, 3), "num_classes": 10}
NETS: dict[str, Callable[[], Model]] = {
    "tiny": lambda: vgg("4 M 4 M", (8,), (8, 8, 3), 10),  # of the tests: says nothing
    "digits_le": lambda: _without_signals(systems.model(Run("digits_le"))),
    "vgg5": lambda: vgg("128 M 256 M 512 M 512v M", (), **_CIFAR),
    "vgg7": lambda: vgg("64 M 128 M 256 M 512 M 512 M", (512,), **_CIFAR),
    "vgg12": lambda: vgg("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512,), **_CIFAR),
    "resnet13": lambda: resnet((128, 256, 512, 512), **_CIFAR),
    "resnet13/4": lambda: resnet((32, 64, 128, 128), **_CIFAR),
}
MATMUL = 2048


class Problem(NamedTuple):
    """A model with weights and a batch; κ of the targets is [batch], so that all can be cut."""

    model: Model
    energy: Energy
    params: dict[str, Any]
    x: jax.Array
    targets: Targets

    @property
    def network(self) -> Network:
        """Layers and edges."""
        return self.model.network

    @property
    def batch(self) -> tuple[jax.Array, Targets]:
        """As an estimator takes it."""
        return self.x, self.targets


def problem(name: str, batch: int) -> Problem:
    """Random weights, images of independent pixels, random labels."""
    model = NETS[name]()
    params = model.init_params(jax.random.key(0))
    x = 0.4 * jax.random.normal(jax.random.key(1), (batch, *model.network.inputs[0].shape))
    labels = jax.random.randint(jax.random.key(2), (batch,), 0, 10)
    return Problem(model, model.energy(), params, x, Targets(labels, jnp.zeros(batch)))


def pixels(settings: Settings, count: int) -> data_lib.Dataset:
    """Images of independent pixels and labels, of the shape and treatment of a data set."""
    spec, numbers = data_lib.spec_of(settings.dataset), np.random.default_rng(0)
    assert spec.image_shape is not None and spec.classes is not None
    images = numbers.integers(0, 256, (count, *spec.image_shape), np.uint8)
    labels = numbers.permutation(np.arange(count, dtype=np.int32) % spec.classes)
    mean, std = data_lib.moments(settings.dataset, settings.std_scale)
    own: Any = {"padding": spec.padding, "flip": spec.flip, "num_classes": spec.classes}
    return data_lib.from_arrays(images, labels, images, labels, mean=mean, std=std, **own)


# Of a dense lowering: its matrix grows as the fourth power of the map.
LARGEST_DENSE_MAP = 4


def lowered(model: Model, lowering: LoweringName) -> Model:
    """The model with each convolution computed in one way, where that way fits its map.

    The others are the backend's own convolution.
    """

    def of(conv: Conv) -> Conv:
        if lowering == "dense" and min(conv.in_shape[:2]) > LARGEST_DENSE_MAP:
            return dataclasses.replace(conv, lowering="convolution")
        try:
            return dataclasses.replace(conv, lowering=lowering)
        except ValueError:  # of a way that cannot compute it
            return dataclasses.replace(conv, lowering="convolution")

    edges = tuple(
        dataclasses.replace(edge, coupling=of(edge.coupling))
        if isinstance(edge.coupling, Conv)
        else edge
        for edge in model.network.edges
    )
    return dataclasses.replace(model, network=dataclasses.replace(model.network, edges=edges))


def sweeps(energy: Energy, order: str, params: Any, batch: Any, count: Any) -> Any:
    """`count` sweeps of the free phase from the states of a batch (x, states).

    The count may be traced, so that one compilation serves all.
    """
    x, states = batch
    sweep = Sweep.over(free_objective(energy, params, x), states, order)
    return jax.lax.fori_loop(0, count, lambda _, at: sweep.step(at), sweep.begin(states)).states


def products(coupling: Coupling) -> int:
    """Multiplications per sample that count: those with a padding zero do not."""
    if not isinstance(coupling, Conv):
        return int(np.prod(coupling.in_shape)) * coupling.out_shape[0]
    taps = 1
    for size, out in zip(coupling.in_shape[:2], coupling.conv_shape[:2], strict=True):
        first = coupling.stride * np.arange(out)[:, None] - coupling.padding
        places = first + np.arange(coupling.kernel_size)
        taps *= int(np.sum((places >= 0) & (places < size)))
    return taps * coupling.in_shape[2] * coupling.features


def step_flops(network: Network, batch: int) -> float:
    """Of one synchronous step: each coupling but the input's once forward and once backward."""
    inner = [edge.coupling for edge in network.edges if edge.lower in network.shapes]
    return sum(4.0 * batch * products(coupling) for coupling in inner)


def sweep_gflop(p: Problem) -> dict[str, float]:
    """By order, GFLOP of one more sweep in a compiled loop: of three sweeps less those of two.

    By XLA's analysis, without what is prepared once.
    """

    def counted(order: str, count: int) -> float:
        def unrolled(params: Any, x: jax.Array, states: Any) -> Any:
            sweep = Sweep.over(free_objective(p.energy, params, x), states, order)
            at = sweep.begin(states)
            for _ in range(count):
                at = sweep.step(at)
            return at.states

        states = p.energy.init_states(jax.random.key(0), p.params, p.x)
        cost: Any = jax.jit(unrolled).lower(p.params, p.x, states).compile().cost_analysis()
        return cost["flops"] / 1e9

    return {order: counted(order, 3) - counted(order, 2) for order in ORDERS}


def seconds(call: Callable[..., Any], *given: Any) -> float:
    """Of one call, until its arrays are there."""
    began = time.perf_counter()
    jax.block_until_ready(call(*given))
    return time.perf_counter() - began


def medians(clocks: Mapping[Any, Callable[[], float]], rounds: int) -> dict[Any, float]:
    """The median of each clock's seconds; in each round every clock has its turn."""
    found = [{name: clock() for name, clock in clocks.items()} for _ in range(rounds)]
    return {name: statistics.median(row[name] for row in found) for name in clocks}


def matmul_flops(size: int = MATMUL) -> float:
    """Of the product that `matmul_seconds` times."""
    return 2.0 * size**3


def matmul_seconds(size: int = MATMUL, dtype: Any = jnp.float32) -> Callable[[], float]:
    """One large product, the rate that nothing on this machine exceeds by much."""
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(jnp.matmul)
    return lambda: min(seconds(product, a, a) for _ in range(3))


def alone(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a function of a module returns in a fresh process, where JAX has not started yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def whole_batch_on_one_device() -> None:
    """For a fresh process: JAX as train.py readies it, with one device and no cached program."""
    os.environ["JAX_NUM_CPU_DEVICES"] = "1"
    prepare_jax()
    jax.config.update("jax_enable_compilation_cache", False)
