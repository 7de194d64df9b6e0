"""The public code Laborieux-Axel/Equilibrium-Propagation, imported from a checkout of the user's.

Nothing of it is copied here: `load` puts its directory on the path, and `gradients` calls its
class in the order of its own training loop with `thirdphase`.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.baselines.torch_reference import Chain, States
from jaxep.nets.couplings import Conv
from jaxep.nets.graph import Network

CRITERION = torch.nn.CrossEntropyLoss(reduction="none")


class Peer(NamedTuple):
    """Its `P_CNN` and the batch that it sees."""

    model: Any
    x: torch.Tensor
    labels: torch.Tensor

    @property
    def weights(self) -> States:
        """Weight and bias of each synapse."""
        return [tensor for s in self.model.synapses for tensor in (s.weight, s.bias)]


def load(folder: str) -> Any:
    """Its module `model_utils`.

    Raises:
        SystemExit: the folder holds no such module.
    """
    if not Path(folder, "model_utils.py").is_file():
        raise SystemExit(f"--peer {folder}: holds no model_utils.py of Equilibrium-Propagation")
    sys.path.insert(0, str(Path(folder).resolve()))
    # Its modules import torchvision and its plots for loading images; the model needs neither.
    for name in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
        sys.modules.setdefault(name, types.ModuleType(name))
    return importlib.import_module("model_utils")


def build(module: Any, network: Network, chain: Chain) -> Peer:
    """Its `P_CNN` with the weights and the batch of `chain`."""
    links = [edge.coupling for edge in network.edges]
    convs = [link for link in links if isinstance(link, Conv)]
    dense = [link.out_shape[0] for link in links if not isinstance(link, Conv)]
    model = module.P_CNN(
        convs[0].in_shape[0],
        [convs[0].in_shape[2], *(c.features for c in convs)],
        [c.kernel_size for c in convs],
        [c.stride for c in convs],
        [*dense, chain.readout[1].out_features],
        [layer[1] for layer in chain.layers[: len(convs)]],
        [c.padding for c in convs],
        activation=module.hard_sigmoid,
        softmax=True,
    )
    peer = Peer(model, chain.x, chain.labels)
    for own, theirs in zip(peer.weights, chain.weights, strict=True):
        own.data.copy_(theirs.data)
    return peer


def settle(peer: Peer, states: States, beta: float, steps: int) -> States:
    """`steps` of its forward."""
    states = [state.detach().clone().requires_grad_() for state in states]
    return peer.model(peer.x, peer.labels, states, steps, beta=beta, criterion=CRITERION)


def gradients(
    peer: Peer, start: States, beta: float, t_free: int, t_nudge: int
) -> tuple[States, States]:
    """Its three phases and weight gradients, as (free states, gradients in the chain's order)."""
    free = settle(peer, start, 0.0, t_free)
    plus, minus = (settle(peer, free, b, t_nudge) for b in (beta, -beta))
    peer.model.compute_syn_grads(peer.x, peer.labels, plus, minus, (beta, -beta), CRITERION)
    grads: list[Any] = [weight.grad for weight in peer.weights]
    return free, grads
