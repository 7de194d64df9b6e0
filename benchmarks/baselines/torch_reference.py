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
from torch import nn

from jaxep.nets.couplings import Conv, Coupling
from jaxep.nets.graph import Network

States = list[torch.Tensor]
POOLS: dict[str | None, Any] = {None: nn.Identity, "max": nn.MaxPool2d, "average": nn.AvgPool2d}


class Chain(NamedTuple):
    """The couplings from the image upwards, the readout, and the batch that they see."""

    layers: list[nn.Sequential]
    readout: nn.Sequential
    x: torch.Tensor
    labels: torch.Tensor

    @property
    def weights(self) -> States:
        """Weight and bias of each layer and of the readout."""
        return [own for layer in (*self.layers, self.readout) for own in layer.parameters()]


def tensor(array: Any) -> torch.Tensor:
    """A contiguous copy on torch's default device."""
    return torch.tensor(np.array(array, order="C"))


def from_jax(network: Network, params: dict[str, Any], x: jax.Array, labels: jax.Array) -> Chain:
    """A chain with a readout and its batch in PyTorch's layout."""
    layers = [_coupling(edge.coupling, params["edges"][edge.name]) for edge in network.edges]
    readout = _dense(list(network.shapes.values())[-1], params["heads"]["readout"])
    images = tensor(np.asarray(x).transpose(0, 3, 1, 2))
    return Chain(layers, readout, images, tensor(labels).long())


def _coupling(link: Coupling, own: dict[str, jax.Array]) -> nn.Sequential:
    """A convolution with its pool, or a dense layer."""
    if not isinstance(link, Conv):
        return _dense(link.in_shape, own)
    conv = nn.Conv2d(link.in_shape[2], link.features, link.kernel_size, link.stride, link.padding)
    kernel = np.asarray(own["kernel"]).transpose(3, 2, 0, 1)
    pool = POOLS[link.pool]
    return nn.Sequential(_filled(conv, kernel, own), pool(2) if link.pool else pool())


def _dense(in_shape: tuple[int, ...], own: dict[str, jax.Array]) -> nn.Sequential:
    """Flattens with the channels of a map first."""
    kernel = np.asarray(own["kernel"])
    inputs, outputs = kernel.shape
    kernel = np.moveaxis(kernel.reshape(*in_shape, outputs), -2, 0).reshape(inputs, outputs)
    return nn.Sequential(nn.Flatten(), _filled(nn.Linear(inputs, outputs), kernel.T, own))


def _filled(module: Any, kernel: np.ndarray, own: dict[str, jax.Array]) -> nn.Module:
    module.weight.data, module.bias.data = tensor(kernel), tensor(own["bias"])
    return module


def phi(chain: Chain, states: States) -> torch.Tensor:
    """Φ(x, ξ, w), eq. 1, summed over the batch."""
    total = torch.zeros(())
    for layer, lower, upper in zip(chain.layers, [chain.x, *states[:-1]], states, strict=True):
        total = total + (upper * layer(lower)).sum()
    return total


def phi_aug(chain: Chain, states: States, beta: float) -> torch.Tensor:
    """Φ - β L with the cross entropy of the readout."""
    value = phi(chain, states)
    if beta == 0:
        return value
    return value - beta * F.cross_entropy(chain.readout(states[-1]), chain.labels, reduction="sum")


def settle(chain: Chain, states: States, beta: float, steps: int) -> States:
    """`steps` synchronous steps ξ <- clip(∂Φ_Aug/∂ξ, 0, 1)."""
    for _ in range(steps):
        states = [state.detach().requires_grad_() for state in states]
        grads = torch.autograd.grad(phi_aug(chain, states, beta), states)
        states = [grad.clamp(0, 1) for grad in grads]
    return states


def zeros(network: Network, batch: int) -> States:
    """Zero states in PyTorch's layout."""
    shapes = [(s[2], s[0], s[1]) if len(s) == 3 else s for s in network.shapes.values()]
    return [torch.zeros(batch, *shape) for shape in shapes]


def gradients(
    chain: Chain, start: States, beta: float, t_free: int, t_nudge: int
) -> tuple[States, States]:
    """Three phases and the centered estimate of eq. 4: (free states, gradient of each weight)."""
    free = settle(chain, start, 0.0, t_free)
    plus, minus = (phi_aug(chain, settle(chain, free, b, t_nudge), b) for b in (beta, -beta))
    contrast = -(plus - minus) / (2 * beta * len(chain.labels))
    return free, list(torch.autograd.grad(contrast, chain.weights))
