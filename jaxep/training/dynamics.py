"""Solvers and estimators by the names that settings give them."""

import functools
from collections.abc import Callable
from typing import Any

from jaxep.core import estimators, solvers
from jaxep.core.continual import ContinualEP
from jaxep.core.events import EventDriven
from jaxep.core.fields import FieldEP
from jaxep.core.implicit import Backprop, Implicit
from jaxep.core.stencils import STENCILS, holomorphic
from jaxep.training.settings import Settings

# (settings, tolerance of a phase) -> what a solver takes after steps, order and relaxation.
SOLVERS: dict[str, tuple[type[solvers.Solver], Callable[[Settings, float], tuple]]] = {
    "fixed": (solvers.Fixed, lambda settings, tol: ()),
    "tolerance": (solvers.Tolerance, lambda settings, tol: (tol,)),
    "fixed_point": (solvers.FixedPointIteration, lambda settings, tol: (tol,)),
    "anderson": (solvers.AndersonAcceleration, lambda settings, tol: (tol,)),
    "event_driven": (EventDriven, lambda settings, tol: (settings.event_step,)),
}
# Estimators of a whole batch: shares of it, each with weights of its own, would be another method.
UNCUT = ("continual",)


def build_solver(settings: Settings, steps: int, tol: float) -> solvers.Solver:
    """The solver of one phase of at most `steps` sweeps."""
    kind, rest = SOLVERS[settings.solver]
    return kind(steps, settings.order, settings.relaxation, *rest(settings, tol))


def free_solver(settings: Settings) -> solvers.Solver:
    """The solver of the free phase."""
    if not settings.t_free:
        return solvers.Settled()
    return build_solver(settings, settings.t_free, settings.tol_free)


def nudge_solver(settings: Settings) -> solvers.Solver:
    """The solver of the nudged phases."""
    return build_solver(settings, settings.t_nudge, settings.tol_nudge)


def _ep(settings: Settings, free: solvers.Solver) -> estimators.EP:
    naive = functools.partial(FieldEP, corrected=False)
    kind = estimators.EP if settings.field_correction else naive
    stencil = STENCILS.get(settings.ep_variant) or holomorphic(settings.points)
    return kind(settings.beta, free, nudge_solver(settings), stencil)


def _continual(settings: Settings, free: solvers.Solver) -> ContinualEP:
    nudge, stencil = nudge_solver(settings), STENCILS[settings.ep_variant]
    return ContinualEP(settings.beta, free, nudge, settings.continual_rate, stencil)


# (settings, solver of the free phase) -> an object with `value_and_grad`.
ESTIMATORS: dict[str, Callable[[Settings, solvers.Solver], Any]] = {
    "ep": _ep,
    "continual": _continual,
    "bptt": lambda settings, free: estimators.BPTT(free, settings.bptt_steps or None),
    "implicit": lambda settings, free: Implicit(free),
    "backprop": lambda settings, free: Backprop(free),
}


def build_estimator(settings: Settings) -> Any:
    """The gradient estimator of the settings."""
    return ESTIMATORS[settings.estimator](settings, free_solver(settings))


def statistics(settings: Settings) -> tuple[str, ...]:
    """The names of what the solvers of the phases tell beside steps and residuals."""
    told = SOLVERS[settings.solver][0].tells
    return tuple(f"{phase}_{name}" for phase in ("free", "nudge") for name in told)
