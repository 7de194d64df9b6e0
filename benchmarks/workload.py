"""What the speed benchmarks share: nets, a batch, a clock, and the limit of the machine."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.core.sweep import Energy, hard_sigmoid
from jaxep.nets import heads as signals
from jaxep.nets.couplings import Conv, Coupling
from jaxep.nets.graph import Network, vgg

NETS = {
    "vgg5": ("128 M 256 M 512 M 512v M", ()),
    "vgg7": ("64 M 128 M 256 M 512 M 512 M", (512,)),
    "vgg12": ("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512,)),
}
MATMUL = 2048


class Problem(NamedTuple):
    """What every engine gets."""

    network: Network
    model: Energy
    params: dict[str, Any]
    x: jax.Array
    labels: jax.Array


def problem(name: str, batch: int) -> Problem:
    """Random weights (gain 1), images of independent pixels, random labels."""
    conv, hidden = NETS[name]
    network = vgg(
        conv,
        hidden,
        (32, 32, 3),
        10,
        conv_activation=hard_sigmoid,
        dense_activation=hard_sigmoid,
    )
    signal = signals.NoSignal()
    params = signals.init_params(network, signal, jax.random.key(0))
    x = 0.4 * jax.random.normal(jax.random.key(1), (batch, 32, 32, 3))
    labels = jax.random.randint(jax.random.key(2), (batch,), 0, 10)
    return Problem(network, signals.energy(network, signal), params, x, labels)


def products(coupling: Coupling) -> int:
    """Multiplications per sample that count: those with a padding zero do not."""
    if not isinstance(coupling, Conv):
        return int(np.prod(coupling.in_shape)) * coupling.out_shape[0]
    taps = 1
    for size, out in zip(coupling.in_shape[:2], coupling.conv_shape[:2], strict=True):
        places = np.arange(out)[:, None] + np.arange(coupling.kernel_size) - coupling.padding
        taps *= int(np.sum((places >= 0) & (places < size)))
    return taps * coupling.in_shape[2] * coupling.features


def step_flops(network: Network, batch: int) -> float:
    """Of one synchronous step: each coupling but the input's once forward and once backward."""
    return sum(4.0 * batch * products(coupling) for coupling in network.couplings[1:])


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def matmul_seconds() -> Callable[[], float]:
    """One large float32 product, the rate that nothing on this machine exceeds by much."""
    a = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL))
    product = jax.jit(jnp.matmul)
    return lambda: min(seconds(lambda: jax.block_until_ready(product(a, a))) for _ in range(3))
