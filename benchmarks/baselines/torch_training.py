"""Training in PyTorch by any module that has `gradients` and `settle` as torch_reference has them.

PyTorch's own SGD takes the steps; the weights of the model change in place.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from benchmarks.baselines.torch_reference import States


class Phases(NamedTuple):
    """β, and the synchronous steps of the free and of each nudged phase."""

    beta: float
    free: int
    nudge: int


def update(
    code: Any, model: Any, optimizer: torch.optim.Optimizer, start: States, phases: Phases
) -> None:
    """One update from the batch that the model sees."""
    _, grads = code.gradients(model, start, *phases)
    for weight, grad in zip(model.weights, grads, strict=True):
        weight.grad = grad
    optimizer.step()


def trainer(
    code: Any, model: Any, start: States, phases: Phases, **rule: Any
) -> Callable[[Iterable[torch.Tensor]], None]:
    """A function that makes one update for each set of places in the model's images.

    Args:
        code: `torch_reference`, or `peer`.
        model: sees all training images.
        start: states of a batch.
        phases: of an update.
        rule: of torch.optim.SGD: lr, momentum, weight_decay.
    """
    optimizer = torch.optim.SGD(model.weights, **rule)

    def train(places: Iterable[torch.Tensor]) -> None:
        for picked in places:
            batch = model._replace(x=model.x[picked], labels=model.labels[picked])
            update(code, batch, optimizer, start, phases)

    return train


def accuracy(code: Any, model: Any, start: States, steps: int) -> float:
    """Of the images that the model sees, after a free phase; the last two weights read out."""
    last = code.settle(model, start, 0.0, steps)[-1].flatten(1)
    logits = F.linear(last, *model.weights[-2:])
    return float((logits.argmax(-1) == model.labels).float().mean())
