"""Teachers: VGG nets with batch normalisation in flax, trained by backpropagation."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxep.nets.losses import cross_entropy
from jaxep.nets.lowerings import Direct, product
from jaxep.nets.specs import ConvSpec, named_specs, parse_conv

Tree = Any
POOLS = {"max": nn.max_pool, "average": nn.avg_pool}


def convolution(
    lower: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **others: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` as flax calls it, at stride 1, with this library's gradients.

    On a CPU the kernel's is a product for each of its places, see `Direct`; elsewhere it is XLA's,
    which on a CPU is the faster one alone, but took 15 times as long within the loop over updates
    (teacher_cifar10, one core).
    """
    lowering = Direct(padding[0][0])
    return product(lowering, *lowering.prepare(kernel), lower)


class VGG(nn.Module):
    """3x3 convolutions with batch norm and relu, max pools between blocks, and a dense head.

    Attributes:
        conv: blocks, as `specs.parse_conv` reads them; each ends in a pool M or A.
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
        for spec in parse_teacher(self.conv):
            x = nn.Conv(
                spec.features,
                (spec.kernel_size, spec.kernel_size),
                padding=spec.padding,
                use_bias=False,  # batch norm has one
                kernel_init=nn.initializers.he_normal(),
                conv_general_dilated_cls=lambda: convolution,
            )(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            if spec.pool:
                x = POOLS[spec.pool](x, (2, 2), (2, 2))
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


def parse_teacher(conv: str) -> tuple[ConvSpec, ...]:
    """The convolutions of a teacher: `specs.parse_conv`, without strides and residual blocks.

    Raises:
        ValueError: a sentence about what cannot be read, or is not of a VGG.
    """
    specs = parse_conv(conv)
    if any(spec.residual or spec.stride > 1 for spec in specs):
        raise ValueError("a teacher is a VGG: no strides and no residual blocks")
    return specs


def layers_of_blocks(conv: str) -> dict[str, int]:
    """Which block of a teacher each layer of a student may be compared with, by layer name.

    A student layer whose map is smaller than the one below, by a pool or a stride, meets the block
    that ends in the same number of pools.

    Args:
        conv: the student's convolutions.
    """
    found: dict[str, int] = {}
    for name, spec in named_specs(conv):
        if spec.reduces:
            found[name] = len(found)
    return found
