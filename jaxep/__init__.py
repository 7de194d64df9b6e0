"""jaxep: equilibrium propagation in JAX, for deep networks and any energy of yours."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxep._version import __version__
from jaxep.core.activations import (
    ContextualActivation,
    hard_sigmoid,
    hard_tanh,
    linear,
    relu,
    relu6,
    shifted_sigmoid,
    soft_clip,
)
from jaxep.core.continual import ContinualEP
from jaxep.core.energy import Energy, FastPhi, energy_per_sample, initial_states, phi_aug
from jaxep.core.estimators import BPTT, EP, Aux
from jaxep.core.events import EventDriven
from jaxep.core.fields import FieldEP, VectorField
from jaxep.core.implicit import Backprop, Implicit
from jaxep.core.layer import layer
from jaxep.core.solvers import (
    AndersonAcceleration,
    Fixed,
    FixedPointIteration,
    Settled,
    Solution,
    Solver,
    Tolerance,
    equilibrium,
)
from jaxep.core.stencils import (
    Stencil,
    centered,
    four_point,
    holomorphic,
    one_sided,
    random_sign,
)

if TYPE_CHECKING:
    from jaxep import energies, nets, training
    from jaxep.training import fit, load_run

# Found when they are asked for: an energy of one's own needs neither networks nor data sets.
_LATER = {
    "energies": "jaxep.energies",
    "nets": "jaxep.nets",
    "training": "jaxep.training",
    "fit": "jaxep.training",
    "load_run": "jaxep.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'jaxep' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if module.__name__ == f"jaxep.{name}" else getattr(module, name)


__all__ = [
    "BPTT",
    "EP",
    "__version__",
    "AndersonAcceleration",
    "Aux",
    "Backprop",
    "ContextualActivation",
    "ContinualEP",
    "Energy",
    "FastPhi",
    "FieldEP",
    "EventDriven",
    "Fixed",
    "FixedPointIteration",
    "Implicit",
    "Settled",
    "Solution",
    "Solver",
    "Stencil",
    "Tolerance",
    "VectorField",
    "centered",
    "energies",
    "energy_per_sample",
    "equilibrium",
    "fit",
    "four_point",
    "hard_sigmoid",
    "hard_tanh",
    "holomorphic",
    "initial_states",
    "layer",
    "linear",
    "load_run",
    "nets",
    "one_sided",
    "phi_aug",
    "random_sign",
    "relu",
    "relu6",
    "shifted_sigmoid",
    "soft_clip",
    "training",
]
