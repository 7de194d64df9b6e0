"""Equilibrium propagation in plain PyTorch, written in the obvious way: the peer of step_time.

Autograd of Φ in a Python loop, as every public code does it, for a chain of layers. They are in
PyTorch's layout: images [batch, channels, height, width]; the readout is outside of Φ.
Needs torch, which jaxep itself does not: pip install torch.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F

from jaxep.nets.couplings import Conv
from jaxep.nets.graph import Network

States = list[torch.Tensor]
POOLS = {"max": F.max_pool2d, "average": F.avg_pool2d}


class Layer(NamedTuple):
    """One coupling: weight and bias of a convolution (4 axes) or of a dense layer (2 axes)."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    padding: int = 0
    pool: str | None = None


class Chain(NamedTuple):
    """The couplings from the image upwards, and the readout."""

    layers: list[Layer]
    readout: Layer


def tensor(array: Any) -> torch.Tensor:
    """A contiguous copy."""
    return torch.from_numpy(np.array(array, order="C"))


def image(array: jax.Array) -> torch.Tensor:
    """[batch, height, width, channels] -> [batch, channels, height, width]."""
    return tensor(np.asarray(array).transpose(0, 3, 1, 2))


def from_jax(network: Network, params: dict[str, Any]) -> Chain:
    """The weights of a chain with a readout in PyTorch's layout, requiring gradients."""
    layers = []
    for edge in network.edges:
        own, link = params["edges"][edge.name], edge.coupling
        kernel, bias = np.asarray(own["kernel"]), tensor(own["bias"])
        if isinstance(link, Conv):
            weight = tensor(kernel.transpose(3, 2, 0, 1))
            layers.append(Layer(weight, bias, link.stride, link.padding, link.pool))
        else:
            layers.append(Layer(_dense(kernel, link.in_shape), bias))
    own = params["heads"]["readout"]
    readout = Layer(tensor(own["kernel"].T), tensor(own["bias"]))
    for layer in (*layers, readout):
        layer.weight.requires_grad_()
        layer.bias.requires_grad_()
    return Chain(layers, readout)


def _dense(kernel: np.ndarray, in_shape: tuple[int, ...]) -> torch.Tensor:
    """[inputs, outputs] -> [outputs, inputs]; a map is flattened with its channels first."""
    if len(in_shape) == 3:
        height, width, channels = in_shape
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
        kernel = kernel.reshape(height * width * channels, -1)
    return tensor(kernel.T)


def drive(layer: Layer, lower: torch.Tensor) -> torch.Tensor:
    """C(lower): convolution, then pool; or a dense layer."""
    if layer.weight.dim() == 2:
        return F.linear(lower.flatten(1), layer.weight, layer.bias)
    output = F.conv2d(lower, layer.weight, layer.bias, layer.stride, layer.padding)
    return POOLS[layer.pool](output, 2) if layer.pool else output


def phi(chain: Chain, x: torch.Tensor, states: States) -> torch.Tensor:
    """Φ(x, ξ, w), eq. 1, summed over the batch."""
    total = torch.zeros(())
    for layer, lower, upper in zip(chain.layers, [x, *states[:-1]], states, strict=True):
        total = total + (upper * drive(layer, lower)).sum()
    return total


def phi_aug(
    chain: Chain, x: torch.Tensor, states: States, labels: torch.Tensor, beta: float
) -> torch.Tensor:
    """Φ - β L with the cross entropy of the readout."""
    value = phi(chain, x, states)
    if beta == 0:
        return value
    logits = drive(chain.readout, states[-1])
    return value - beta * F.cross_entropy(logits, labels, reduction="sum")


def settle(
    chain: Chain, x: torch.Tensor, states: States, labels: torch.Tensor, beta: float, steps: int
) -> States:
    """`steps` synchronous steps ξ <- clip(∂Φ_Aug/∂ξ, 0, 1)."""
    for _ in range(steps):
        states = [state.detach().requires_grad_() for state in states]
        value = phi_aug(chain, x, states, labels, beta)
        states = [grad.clamp(0, 1) for grad in torch.autograd.grad(value, states)]
    return states


def zeros(network: Network, batch: int) -> States:
    """Zero states in PyTorch's layout."""
    shapes = [(s[2], s[0], s[1]) if len(s) == 3 else s for s in network.shapes.values()]
    return [torch.zeros(batch, *shape) for shape in shapes]


def gradients(
    chain: Chain,
    x: torch.Tensor,
    start: States,
    labels: torch.Tensor,
    beta: float,
    t_free: int,
    t_nudge: int,
) -> tuple[States, list[torch.Tensor]]:
    """Three phases and the centered estimate of eq. 4: (free states, gradient of each tensor)."""
    free = settle(chain, x, start, labels, 0.0, t_free)
    plus, minus = (settle(chain, x, free, labels, b, t_nudge) for b in (beta, -beta))
    values = [phi_aug(chain, x, s, labels, b) for s, b in ((plus, beta), (minus, -beta))]
    contrast = -(values[0] - values[1]) / (2 * beta * len(x))
    weights = [t for layer in (*chain.layers, chain.readout) for t in (layer.weight, layer.bias)]
    return free, list(torch.autograd.grad(contrast, weights))
