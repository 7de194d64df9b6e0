"""An energy of your own: a Hopfield net with a skip connection learns exclusive or by EP."""

import jax
import jax.numpy as jnp
import optax

import jaxep


def phi(params, x, states):  # E = |states|²/2 - phi: neurons move up the gradient of phi
    drive = jnp.sum((x @ params["in"] + 0.5) * states["hidden"], -1)
    skip = jnp.sum((x @ params["skip"]) * states["out"], -1)
    return drive + skip + jnp.sum((states["hidden"] @ params["out"]) * states["out"], -1)


def loss(params, states, targets):  # one value for each sample
    return 0.5 * jnp.sum((states["out"] - targets) ** 2, -1)


def init_states(key, params, x):
    return {"hidden": jnp.zeros((len(x), 16)), "out": jnp.zeros((len(x), 1))}


sigma = {"hidden": jaxep.hard_sigmoid, "out": jaxep.linear}
energy = jaxep.Energy(phi, loss, init_states, activation=sigma)
ep = jaxep.EP(0.5, jaxep.Fixed(20, "alternating"), jaxep.Fixed(10, "alternating"))
value_and_grad = jax.jit(ep.value_and_grad(energy))

x, y = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), jnp.array([[0.0], [1], [1], [0]])
shapes = {"in": (2, 16), "out": (16, 1), "skip": (2, 1)}
keys = jax.random.split(jax.random.key(0), 3)
params = {n: 0.5 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
optimizer = optax.adam(0.01)
opt_state = optimizer.init(params)
for _ in range(1500):
    value, grads, aux = value_and_grad(params, (x, y), keys[0])
    updates, opt_state = optimizer.update(grads, opt_state)
    params = optax.apply_updates(params, updates)
print(f"loss {value:.5f}, residual {aux.free.residual:.0e}")
