"""Teachers: VGG nets with batch normalisation in flax, trained by backpropagation (SPEC 6)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxep.nets.graph import parse_conv
from jaxep.nets.losses import cross_entropy
from jaxep.nets.lowerings import Direct, product
from jaxep.run.errors import SettingsError

Tree = Any


def convolution(
    lower: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **others: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` as flax calls it, at stride 1, with this library's gradients.

    On a CPU the kernel's is a product for each of its places, see `Direct`; elsewhere it is XLA's.
    """
    lowering = Direct(padding[0][0])
    return product(lowering, *lowering.prepare(kernel), lower)


class VGG(nn.Module):
    """3x3 convolutions with batch norm and relu, max pools between blocks, and a dense head.

    Attributes:
        conv: blocks, as `network.parse_conv` reads them; each ends in a pool M.
        hidden: neurons of each hidden dense layer.
        num_classes: number of logits.
    """

    conv: str
    hidden: tuple[int, ...]
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """[batch, height, width, channels] -> (logits, each block's output after its pool)."""
        blocks = []
        for spec in parse_conv(self.conv):
            x = nn.Conv(
                spec.features,
                (3, 3),
                padding=spec.padding,
                use_bias=False,  # batch norm has one
                kernel_init=nn.initializers.he_normal(),
                conv_general_dilated_cls=lambda: convolution,
            )(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            if spec.pool:
                x = nn.max_pool(x, (2, 2), (2, 2))
                blocks.append(x)
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = nn.relu(nn.Dense(features, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(self.num_classes)(x), tuple(blocks)


def init(model: VGG, key: jax.Array, image_shape: tuple[int, int, int]) -> tuple[Tree, Tree]:
    """(parameters, batch statistics) for images [batch, *image_shape]."""
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    return variables["params"], variables["batch_stats"]


def loss_and_grads(
    model: VGG, params: Tree, statistics: Tree, x: jax.Array, labels: jax.Array
) -> tuple[jax.Array, Tree, Tree, jax.Array]:
    """One backpropagation through a batch.

    Args:
        model: the teacher.
        params: its parameters.
        statistics: its running batch statistics.
        x: normalised images [batch, height, width, channels].
        labels: integers [batch].

    Returns:
        (mean cross entropy, gradients, new batch statistics, number of correct answers).
    """

    def loss_of(params):
        variables = {"params": params, "batch_stats": statistics}
        (logits, _), changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
        correct = jnp.sum(logits.argmax(-1) == labels)
        return cross_entropy(logits, labels).mean(), (changed["batch_stats"], correct)

    (loss, (statistics, correct)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    return loss, grads, statistics, correct


def predict(
    model: VGG, params: Tree, statistics: Tree, x: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """(logits, block features) with the running statistics; nothing is learned through them."""
    outputs: Any = model.apply({"params": params, "batch_stats": statistics}, x, train=False)
    return jax.lax.stop_gradient(outputs)


def block_of_layer(conv: str, layer: int) -> int:
    """Which block of a teacher a student layer of Υ is compared with.

    The student layer must end in a pool; it meets the block that ends in the same number of pools.

    Args:
        conv: the student's convolutions.
        layer: index of its neuron layer, from 0.

    Raises:
        SettingsError: the layer does not end in a pool.
    """
    specs = parse_conv(conv)
    if not 0 <= layer < len(specs) or not specs[layer].pool:
        raise SettingsError(
            f"config.signal_layers = {layer}: distillation compares layers that end in a pool"
        )
    return sum(spec.pool for spec in specs[: layer + 1]) - 1
