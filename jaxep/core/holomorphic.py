"""Φ of complex states: holomorphic EP, and what is not holomorphic, read off its operations.

Laborieux & Zenke 2022 (arXiv 2209.00530) nudge by β e^{iθ} and read dL/dw as the first Fourier
coefficient of ∂Φ_Aug/∂w over θ, by Cauchy's formula: see `stencils.holomorphic`. It holds where
Φ, the loss and σ are holomorphic functions of the states.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jax_core

from jaxep.core import checks
from jaxep.core.objective import empty_cache

Tree = Any
# Operations that order complex numbers or conjugate them. Those that make anything but complex
# numbers of them (abs, real, a comparison) need no name.
NOT_HOLOMORPHIC = {
    *("conj", "max", "min", "clamp", "sign", "sort", "reduce_max", "reduce_min"),
    *("cummax", "cummin", "reduce_window_max", "reduce_window_min"),
}
# Under this name a real linear function may take the parts of complex numbers one by one.
_BY_PARTS = "linear_by_parts"


def by_parts(function: Callable[[jax.Array], jax.Array], states: jax.Array) -> jax.Array:
    """A real linear function of complex states, as one call for their real and imaginary parts.

    XLA:CPU takes 26 times as long for a complex matrix product as for the real one, and this twice.

    Args:
        function: linear, [batch, ...] -> [batch, ...], of real arrays.
        states: [batch, ...]; real ones are given to `function` as they are.
    """
    if not jnp.iscomplexobj(states):
        return function(states)
    with jax.named_scope(_BY_PARTS):
        both = function(jnp.concatenate([states.real, states.imag]))
        return jax.lax.complex(*jnp.split(both, 2))


def as_complex(states: Tree) -> Tree:
    """Real states as complex numbers of the same width."""
    return jax.tree.map(lambda leaf: leaf.astype(complex_type(leaf.dtype)), states)


def complex_type(dtype: Any) -> Any:
    """complex64 of float32, complex128 of float64."""
    return jnp.result_type(dtype, jnp.complex64)


def offence(function: Callable[..., Any], *given: Any) -> str | None:
    """The name of an operation by which `function` is not a holomorphic one; None where it is.

    Read off its jaxpr. What `jax.lax.stop_gradient` hides counts as constant, as it does for
    derivatives: softmax subtracts a maximum so.

    Args:
        function: of arrays or their shapes, some complex.
        *given: its arguments.
    """
    return _offence(jax.make_jaxpr(function)(*given).jaxpr)


def _offence(jaxpr: Any) -> str | None:
    needed = _variables(jaxpr.outvars)
    for eqn in reversed(jaxpr.eqns):
        if eqn.primitive.name == "stop_gradient" or not needed & _variables(eqn.outvars):
            continue
        needed |= _variables(eqn.invars)
        if _BY_PARTS in str(eqn.source_info.name_stack):
            continue
        inner = [_offence(sub) for value in eqn.params.values() for sub in _jaxprs(value)]
        if not inner and any(map(_is_complex, eqn.invars)):
            all_complex = all(map(_is_complex, eqn.outvars))
            if eqn.primitive.name in NOT_HOLOMORPHIC or not all_complex:
                return eqn.primitive.name
        found = next(filter(None, inner), None)
        if found:
            return found
    return None


def _variables(places: Any) -> set:
    return {place for place in places if not isinstance(place, jax_core.Literal)}


def _is_complex(place: Any) -> bool:
    dtype = getattr(place.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)


def _jaxprs(value: Any) -> list:
    """The jaxprs in a parameter of an operation."""
    if isinstance(value, tuple | list):
        return [jaxpr for part in value for jaxpr in _jaxprs(part)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []


def objection(function: Callable[..., Any], *given: Any) -> str | None:
    """Why `function` cannot be continued to complex states, a clause; None where it can.

    Arguments as of `offence`. Not all that is refused is not holomorphic: `jax.nn.softplus` brings
    the imaginary part of its result into [-π, π].
    """
    try:
        found = offence(function, *given)
    except (TypeError, ValueError) as error:  # of `jnp.clip`, of our couplings
        reason = str(error).splitlines()[0].split(". ")[0]
        return f"takes no complex numbers ({reason})"
    return f"uses `{found}` of complex numbers, which is not holomorphic" if found else None


def check(objective: Any, states: Tree, targets: Tree) -> None:
    """Refuses what EP cannot nudge by a complex β.

    Args:
        objective: of the free phase.
        states: its equilibrium.
        targets: of the loss.

    Raises:
        ValueError: the states are neither float32 nor float64, Φ of them is not real; or Φ, the
            loss or a σ is not holomorphic.
    """
    names, leaves = checks.leaf_names(states), jax.tree.leaves(states)
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.dtype not in (jnp.float32, jnp.float64):
            allowed = "must be float32 or float64 for a stencil of complex points"
            raise ValueError(f"states: {name} is {leaf.dtype}: {allowed}")
    what, defining = objective.defining()
    found = jax.tree.leaves(jax.eval_shape(defining, states))
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in found):
        needs = "a stencil of complex points needs it real"
        raise ValueError(f"{what} of real states is complex: {needs}")

    def loss(states: Tree) -> jax.Array:
        return objective.energy.loss(objective.params, states, targets)

    shapes = jax.eval_shape(as_complex, states)
    _refuse(what, defining, shapes)
    _refuse("loss", loss, shapes)
    sigmas = objective.activations(states)
    rows = zip(names, sigmas, jax.tree.leaves(shapes), strict=True)
    for index, (name, sigma, leaf) in enumerate(rows):
        given = getattr(sigma, "__name__", type(sigma).__name__)
        moved = functools.partial(objective.activate, index, cache=empty_cache(states))
        _refuse(f"σ of {name} ({given})", moved, leaf, shapes)


def _refuse(what: str, function: Callable[..., Any], *given: Any) -> None:
    found = objection(function, *given)
    if found:
        raise ValueError(f"{what} {found}: a stencil of complex points needs holomorphic functions")
