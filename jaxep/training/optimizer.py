"""Layer-wise SGD with momentum, coupled weight decay and cosine annealing, composed in optax."""

from collections.abc import Sequence
from typing import Any

import jax
import optax

Params = dict[str, Any]


def layer_labels(params: Params) -> Any:
    """The index of the weighted layer whose learning rate each parameter uses, as a tree.

    Layer i of the chain has rate i, the readout the last one. A signal's matrix uses the rate of
    the layer that it reads.
    """
    groups: dict[str, Any] = {}
    for name, sub in params.items():
        if name == "layers":
            groups[name] = tuple(_fill(layer, i) for i, layer in enumerate(sub))
        elif name == "readout":
            groups[name] = _fill(sub, len(params["layers"]))
        else:
            groups[name] = {layer: _fill(maps, int(layer)) for layer, maps in sub.items()}
    return groups


def _fill(tree: Any, value: int) -> Any:
    return jax.tree.map(lambda _: value, tree)


def rate_schedule(kind: str, rate: float, steps: int) -> optax.Schedule:
    """Learning rate over update steps: `cosine` from `rate` to 0 in `steps`, or `constant`."""
    if kind == "cosine":
        return optax.cosine_decay_schedule(rate, steps)
    return optax.constant_schedule(rate)


def sgd(rate: optax.ScalarOrSchedule, momentum: float, weight_decay: float):
    """PyTorch's SGD: weight decay joins the gradient before the momentum, on every parameter."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum))


def layerwise_sgd(
    rates: Sequence[float], steps: int, *, schedule: str, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """SGD with one learning rate for each weighted layer.

    Args:
        rates: initial learning rate of each weighted layer, from the input upwards.
        steps: updates of the whole run, the length of the cosine.
        schedule: `cosine` or `constant`.
        momentum: of the velocity, 0.9 in the paper.
        weight_decay: coupled, on every parameter.
    """
    transforms = {
        i: sgd(rate_schedule(schedule, rate, steps), momentum, weight_decay)
        for i, rate in enumerate(rates)
    }
    return optax.multi_transform(transforms, layer_labels)
