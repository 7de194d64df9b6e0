"""A residual net built from edges, with a local error at its middle, learns digits by EP."""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jaxep
from jaxep import nets

images, labels = load_digits(return_X_y=True)
x, labels = jnp.asarray(images.reshape(-1, 8, 8, 1) / 16), jnp.asarray(labels)
a, b = (8, 8, 16), (4, 4, 32)
network = nets.Network(
    inputs=[nets.Input("image", (8, 8, 1))],
    layers=[nets.Layer("a", a), nets.Layer("b", b), nets.Layer("c", b), nets.Layer("fc", (64,))],
    edges=[
        nets.Edge("image", "a", nets.Conv((8, 8, 1), 16)),
        nets.Edge("a", "b", nets.Conv(a, 32, pool="max")),
        nets.Edge("b", "c", nets.Conv(b, 32)),
        nets.Edge("a", "c", nets.Conv(a, 32, kernel_size=1, stride=2, padding=0), name="skip"),
        nets.Edge("c", "fc", nets.Dense(b, 64)),
    ],
)
model = nets.Model(network, [nets.readout("fc", (64,), 10)])
model = model.with_heads(*nets.local_errors(network, ["b"], 10, tau=1.0))
print("blocks of an alternating sweep:", network.blocks)

ep = jaxep.EP(1.0, jaxep.Fixed(12, "alternating"), jaxep.Fixed(6, "alternating"))
params = model.init_params(jax.random.key(0))
optimizer = optax.sgd(0.05, momentum=0.9)


@jax.jit
def update(params, opt_state, x, labels, key):
    targets = nets.Targets(labels, kappa=0.5)
    loss, grads, _ = ep.value_and_grad(model.energy())(params, (x, targets), key)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


opt_state = optimizer.init(params)
for step in range(150):
    key = jax.random.key(step)
    rows = jax.random.choice(key, 1500, (50,))
    params, opt_state, loss = update(params, opt_state, x[rows], labels[rows], key)
free = jaxep.equilibrium(model.energy(), ep.free, params, x[1500:])
right = model.outputs(params, free.states).argmax(-1) == labels[1500:]
print(f"loss {loss:.3f}, test accuracy {100 * right.mean():.1f} %")
