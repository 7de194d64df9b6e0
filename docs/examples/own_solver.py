"""A solver of your own: sweeps that are averaged with the states before, told when to stop."""

import dataclasses

import jax
import jax.numpy as jnp

import jaxep
from jaxep import nets
from jaxep.core.solvers import relative_residual


@dataclasses.dataclass(frozen=True)
class Damped(jaxep.Solver):
    """ξ <- (1 - a) ξ + a F(ξ), `steps` times."""

    share: float = 0.5

    def iterate(self, sweep, states):
        def body(_, states):
            return jax.tree.map(lambda s, n: s + self.share * (n - s), states, sweep(states))

        states = jax.lax.fori_loop(0, self.steps, body, states)
        residual = relative_residual(sweep(states), states)
        return jaxep.Solution(states, jnp.asarray(self.steps), residual)


model = nets.mlp((32, 32, 32), (10,), 3, gain=3.0)
params, x = model.init_params(jax.random.key(0)), jax.random.normal(jax.random.key(1), (8, 10))
for solver in (jaxep.Fixed(200), Damped(200), jaxep.Fixed(200, "alternating")):
    free = jaxep.equilibrium(model.energy(), solver, params, x)
    print(f"{type(solver).__name__}, {solver.order}: residual {free.residual:.0e}")
