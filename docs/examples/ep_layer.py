"""EP as a layer: blocks of neurons at equilibrium inside a flax net that backpropagates."""

import flax.linen as nn
import jax
import optax
from sklearn.datasets import load_digits

import jaxep


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        model = jaxep.nets.mlp((64,), x.shape[1:], 32)  # neurons fc1 and output
        ep = jaxep.EP(0.1, jaxep.Fixed(12, "alternating"), jaxep.Fixed(6, "alternating"))
        return jaxep.layer(model.energy(), ep)(self.param("ep", model.init_params), x)["output"]


x, labels = jax.device_put(load_digits(return_X_y=True))
x = x.reshape(-1, 8, 8, 1) / 16
net = nn.Sequential([nn.Conv(16, (3, 3), 2), Block(), nn.LayerNorm(), Block(), nn.Dense(10)])
params, optimizer = net.init(jax.random.key(0), x[:1]), optax.adam(3e-3)
state = optimizer.init(params)


def loss(params, rows):
    logits = net.apply(params, x[rows])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()


@jax.jit
def update(params, state, key):
    grads = jax.grad(loss)(params, jax.random.choice(key, 1500, (50,)))
    return optimizer.update(grads, state)


for step in range(300):
    updates, state = update(params, state, jax.random.key(step))
    params = optax.apply_updates(params, updates)
print(f"accuracy {(net.apply(params, x[1500:]).argmax(-1) == labels[1500:]).mean():.1%}")
