"""Random parameters, batches and states of a model, drawn by numpy: nothing to compile."""

import jax
import jax.numpy as jnp
import numpy as np


def params_of(model, seed=0, gain=1.0, dtype=jnp.float64):
    """Parameters as `model.init_params` makes them, of about their size."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init_params, jax.random.key(0))

    def draw(leaf):
        bound = gain / np.sqrt(np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else leaf.shape[0])
        return jnp.asarray(rng.uniform(-bound, bound, leaf.shape), dtype)

    return jax.tree.map(draw, shapes)


def inputs_of(model, batch, seed=0, dtype=jnp.float64):
    """Normal x, [batch, *shape]; a dict of them where there are several inputs."""
    rng = np.random.default_rng(seed + 1000)
    drawn = {
        part.name: jnp.asarray(rng.normal(size=(batch, *part.shape)), dtype)
        for part in model.network.inputs
    }
    return drawn if len(drawn) > 1 else next(iter(drawn.values()))


def states_of(model, batch, seed=0, dtype=jnp.float64):
    """States from U(0, 1), by layer."""
    rng = np.random.default_rng(seed + 2000)
    return {
        name: jnp.asarray(rng.uniform(size=(batch, *shape)), dtype)
        for name, shape in model.network.shapes.items()
    }


def bright_rows(labels, shape, seed):
    """Images [n, *shape] of noise, with two bright rows whose place is the label of three."""
    images = np.random.default_rng(seed).integers(0, 120, (len(labels), *shape), np.uint8)
    for image, label in zip(images, labels, strict=True):
        first = shape[0] // 3 * label
        image[first : first + 2] += 120
    return images
