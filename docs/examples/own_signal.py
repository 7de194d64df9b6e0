"""A signal of your own: a head that pulls the mean activity of a layer towards a wanted one."""

import jax
import jax.numpy as jnp

import jaxep
from jaxep import nets


def activity_loss(states, wanted):
    """Squared distance of each sample's mean activity from the wanted one: [batch]."""
    mean = states.reshape(len(states), -1).mean(-1)
    return 500 * (mean - wanted) ** 2


model = nets.mlp((64, 64), (8, 8, 1), 10, output="readout")
sparse = nets.Head("sparse", "fc1", activity_loss, target=lambda targets: 0.1)
model = model.with_heads(sparse, *nets.local_errors(model.network, ["fc2"], 10))
x = jax.random.uniform(jax.random.key(1), (20, 8, 8, 1))
targets = nets.Targets(jnp.arange(20) % 10, kappa=1.0)
ep = jaxep.EP(0.5, jaxep.Fixed(20, "alternating"), jaxep.Fixed(20, "alternating"))


@jax.jit
def step(params):
    _, grads, aux = ep.value_and_grad(model.energy())(params, (x, targets), jax.random.key(0))
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), aux.free.states["fc1"].mean()


params = model.init_params(jax.random.key(0))
_, before = step(params)
for _ in range(200):
    params, after = step(params)
print(f"mean activity of fc1: {before:.3f} before, {after:.3f} after; wanted 0.1")
