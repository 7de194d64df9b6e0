"""A residual net built from edges, with a local error at its middle, learns digits by EP."""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import jaxep
from jaxep import nets

x, labels = map(jnp.asarray, load_digits(return_X_y=True))
x = x.reshape(-1, 8, 8, 1) / 16
size, half = (8, 8, 16), (4, 4, 32)
layers = [nets.Layer("a", size), nets.Layer("b", half), nets.Layer("c", half)]
edges = [
    nets.Edge("image", "a", nets.Conv((8, 8, 1), 16)),
    nets.Edge("a", "b", nets.Conv(size, 32, pool="max")),
    nets.Edge("b", "c", nets.Conv(half, 32)),
    nets.Edge("a", "c", nets.Conv(size, 32, kernel_size=1, stride=2, padding=0), name="skip"),
]
network = nets.Network([nets.Input("image", (8, 8, 1))], layers, edges)
model = nets.Model(network, [nets.readout("c", half, 10), *nets.local_errors(network, ["b"], 10)])
ep = jaxep.EP(1.0, jaxep.Fixed(10, "alternating"), jaxep.Fixed(5, "alternating"))


@jax.jit
def update(params, key):
    rows = jax.random.choice(key, 1500, (50,))
    batch = x[rows], nets.Targets(labels[rows], kappa=0.5)
    _, grads, _ = ep.value_and_grad(model.energy())(params, batch, key)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)


params = model.init_params(jax.random.key(0))
for step in range(150):
    params = update(params, jax.random.key(step))
states = jaxep.equilibrium(model.energy(), ep.free, params, x[1500:]).states
accuracy = (model.outputs(params, states).argmax(-1) == labels[1500:]).mean()
print(f"blocks {network.blocks}, test accuracy {100 * accuracy:.1f} %")
