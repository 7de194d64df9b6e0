"""The public code Laborieux-Axel/Equilibrium-Propagation, imported from a checkout of the user's.

Nothing of it is copied here: `load` puts its directory on the path, and `gradients` calls its
class in the order of its own training loop with `thirdphase`.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch

from benchmarks.baselines.torch_reference import Chain, States
from jaxep.nets.couplings import Conv
from jaxep.nets.graph import Network

POOLS = {
    None: torch.nn.Identity,
    "max": lambda: torch.nn.MaxPool2d(2, 2),
    "average": lambda: torch.nn.AvgPool2d(2, 2),
}


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


def build(module: Any, network: Network, chain: Chain) -> Any:
    """Its `P_CNN` with the weights of `chain`."""
    links = [edge.coupling for edge in network.edges]
    convs = [link for link in links if isinstance(link, Conv)]
    dense = [link.out_shape[0] for link in links if not isinstance(link, Conv)]
    model = module.P_CNN(
        convs[0].in_shape[0],
        [convs[0].in_shape[2], *(c.features for c in convs)],
        [c.kernel_size for c in convs],
        [c.stride for c in convs],
        [*dense, len(chain.readout.bias)],
        [POOLS[c.pool]() for c in convs],
        [c.padding for c in convs],
        activation=module.hard_sigmoid,
        softmax=True,
    )
    for synapse, layer in zip(model.synapses, (*chain.layers, chain.readout), strict=True):
        synapse.weight.data.copy_(layer.weight.data)
        synapse.bias.data.copy_(layer.bias.data)
    return model


def settle(model: Any, x, states: States, labels, beta: float, steps: int) -> States:
    """`steps` of its forward."""
    criterion = torch.nn.CrossEntropyLoss(reduction="none")
    states = [state.detach().clone().requires_grad_() for state in states]
    return model(x, labels, states, steps, beta=beta, criterion=criterion)


def gradients(model: Any, x, start: States, labels, beta: float, t_free: int, t_nudge: int):
    """Its three phases and weight gradients, as (free states, gradients in the chain's order)."""
    free = settle(model, x, start, labels, 0.0, t_free)
    plus = settle(model, x, free, labels, beta, t_nudge)
    minus = settle(model, x, free, labels, -beta, t_nudge)
    criterion = torch.nn.CrossEntropyLoss(reduction="none")
    model.compute_syn_grads(x, labels, plus, minus, (beta, -beta), criterion)
    return free, [t.grad for s in model.synapses for t in (s.weight, s.bias)]
