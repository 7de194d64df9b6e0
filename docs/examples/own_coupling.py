"""A coupling of your own, here a depthwise convolution, in a network like any other."""

import dataclasses

import jax

import jaxep
from jaxep import nets


@dataclasses.dataclass(frozen=True)
class Depthwise(nets.Coupling):
    """Each channel has a 3x3 kernel of its own."""

    in_shape: tuple[int, int, int]

    @property
    def out_shape(self):
        return self.in_shape

    def init(self, key, gain, dtype):
        return {"kernel": gain / 3 * jax.random.normal(key, (3, 3, 1, self.in_shape[2]), dtype)}

    def apply(self, operators, lower):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            lower, operators["kernel"], (1, 1), "SAME", None, None, layout, self.in_shape[2]
        )


shape = (8, 8, 4)
first = nets.Edge("image", "conv", nets.Conv((8, 8, 1), 4))
edges = first, nets.Edge("conv", "depth", Depthwise(shape))
layers = nets.Layer("conv", shape), nets.Layer("depth", shape, bias=True)
network = nets.Network([nets.Input("image", (8, 8, 1))], layers, edges)
model = nets.Model(network, [nets.readout("depth", shape, 10)])
params, x = model.init_params(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
free = jaxep.equilibrium(model.energy(), jaxep.Tolerance(100, "alternating"), params, x)
logits = model.outputs(params, free.states)
print(f"{free.steps} sweeps, residual {free.residual:.0e}, logits {logits.shape}")
