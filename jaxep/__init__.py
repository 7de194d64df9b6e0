"""jaxep: equilibrium propagation in JAX, for deep networks and any energy of yours."""

from jaxep._version import __version__
from jaxep.core.estimators import BPTT, EP, Aux, Implicit, centered, one_sided, random_sign
from jaxep.core.solvers import (
    AndersonAcceleration,
    Fixed,
    FixedPointIteration,
    Solution,
    Solver,
    Tolerance,
)
from jaxep.core.sweep import Energy, hard_sigmoid, phi_aug, relu

__all__ = [
    "BPTT",
    "EP",
    "__version__",
    "AndersonAcceleration",
    "Aux",
    "Energy",
    "Fixed",
    "FixedPointIteration",
    "Implicit",
    "Solution",
    "Solver",
    "Tolerance",
    "centered",
    "hard_sigmoid",
    "one_sided",
    "phi_aug",
    "random_sign",
    "relu",
]
