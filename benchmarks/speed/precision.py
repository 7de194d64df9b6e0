"""What does less than float32 cost?

How far the EP gradient is from that of the same phases in float32, over β, on a digits net with
random and with trained weights: with phases in bfloat16 (config.precision), and with the factors of
every product rounded as a GPU and a TPU do with float32 unless they are told not to, which train.py
does. That rounding is emulated, so that it can be measured anywhere. Over some batches, as one
image that finds another equilibrium outweighs all else. And what accuracy training in float32 and
in bfloat16 reaches.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.speed.solvers import SHALLOW, digits
from jaxep import EP, Energy, Fixed
from jaxep.nets.couplings import LoweringName
from jaxep.training.steps import evaluate

BETAS = (0.03, 0.1, 0.3, 1.0, 2.0)
FREE, NUDGE = (Fixed(steps, "alternating", 1.4) for steps in (60, 30))
EPOCHS = 8
BATCHES, IMAGES = 6, 40
WEIGHTS = {"random": 0, "trained": 4}  # epochs
# Points of accuracy by which training in less may fall short and count as good; a share of the
# gradient by which it may be off and counts as near.
AS_GOOD, NEAR = 1.0, 0.1


def near(tree: Any, bits: int) -> Any:
    """Floats rounded to `bits` binary places after the first; derivatives pass unchanged."""

    def nearest(leaf: jax.Array) -> jax.Array:
        return leaf + jax.lax.stop_gradient(jax.lax.reduce_precision(leaf, 8, bits) - leaf)

    return jax.tree.map(nearest, tree)


def rounded(bits: int, energy: Energy, x: jax.Array) -> tuple[Energy, jax.Array]:
    """The energy and its input with the factors of all products rounded, biases with them.

    Exact for backends' own convolutions, whose prepared kernels are the rounded ones.
    """
    fast, loss = energy.fast(), energy.loss
    coarse = dataclasses.replace(
        fast,
        prepare=lambda params, x: fast.prepare(near(params, bits), x),
        phi_and_cache=lambda params, x, states, cache: fast.phi_and_cache(
            near(params, bits), x, near(states, bits), cache
        ),
    )

    def coarse_loss(params, states, targets):
        return loss(near(params, bits), near(states, bits), targets)

    return dataclasses.replace(energy, phi=coarse, loss=coarse_loss), near(x, bits)


def bfloat16(energy: Energy, x: jax.Array) -> tuple[Energy, jax.Array]:
    """Phases take the type of their input: config.precision."""
    return energy, x.astype(jnp.bfloat16)


class Kind(NamedTuple):
    """What is less precise, and which convolutions compute it: "auto" is minimal filtering here."""

    change: Callable[[Energy, jax.Array], tuple[Energy, jax.Array]]
    lowering: LoweringName


KINDS = {
    "bfloat16 phases": Kind(bfloat16, "convolution"),
    "bfloat16 phases, minimal filtering (CPU)": Kind(bfloat16, "auto"),
    "bfloat16 products (TPU)": Kind(functools.partial(rounded, 7), "convolution"),
    "TensorFloat-32 products (GPU)": Kind(functools.partial(rounded, 10), "convolution"),
}


def lowered(system: systems.System, lowering: LoweringName) -> Energy:
    """The system's energy with all convolutions computed in one way."""
    return workload.lowered(system.model, lowering).energy(system.settings.init_states)


def gaps(system: systems.System, params: Any, kind: Kind) -> list[list[float]]:
    """Relative distance from the float32 gradient: for each β, over the batches."""

    @functools.partial(jax.jit, static_argnums=0)
    def both(lowering, x, targets, beta):
        energy = lowered(system, lowering)
        of = EP(beta, FREE, NUDGE).value_and_grad
        return [
            of(energy)(params, (image, targets), jax.random.key(0))[1]
            for energy, image in ((energy, x), kind.change(energy, x))
        ]

    def gap(beta: float, first: int) -> float:
        wide, narrow = both(kind.lowering, *system.batch(IMAGES, first=first), jnp.float32(beta))
        return systems.error(narrow, wide)

    return [[gap(beta, IMAGES * i) for i in range(BATCHES)] for beta in BETAS]


def accuracy(precision: str) -> float:
    """Test accuracy after `EPOCHS` of the shallow digits net."""
    run = SHALLOW.but(precision=precision, epochs=EPOCHS)
    mine, task, state = systems.train(run, EPOCHS)
    arguments = state.params, state.extra, mine.data.test, jax.random.key(1)
    return float(evaluate(task, mine.settings.eval_batch_size, *arguments)[1])


def measure(options: Options) -> Result:
    """Gradients, then accuracies."""
    system = systems.system(SHALLOW)
    found = {}
    for weights, epochs in WEIGHTS.items():
        params = digits(epochs, SHALLOW).params
        for name, kind in KINDS.items():
            found[f"{weights}, {name}"] = gaps(system, params, kind)
    reached = {kind: accuracy(kind) for kind in ("float32", "bfloat16")}
    return {"betas": BETAS, "gaps": found, "epochs": EPOCHS, "test_accuracy": reached}


def table(result: Result) -> str:
    """Median distance over β, the largest in brackets."""
    header = ["weights, what is less precise", *(f"β {beta:g}" for beta in result["betas"])]
    rows = [
        [name, *(f"{statistics.median(each):.3f} ({max(each):.3f})" for each in values)]
        for name, values in result["gaps"].items()
    ]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """What training in bfloat16 costs, and what rounded products do to a gradient."""
    reached = {kind: 100 * value for kind, value in result["test_accuracy"].items()}
    statement = f"Training in bfloat16 reaches what float32 does, in {result['epochs']} epochs"
    here = ", ".join(f"{value:.1f} % in {kind}" for kind, value in reached.items())
    good = reached["bfloat16"] >= reached["float32"] - AS_GOOD
    yield Claim(statement, f"aim: {AS_GOOD:g} point below at most", here, good)
    for name in KINDS:
        values = result["gaps"][f"trained, {name}"]
        medians, largest = show.percents(map(statistics.median, values)), max(map(max, values))
        statement = f"Trained weights, {name}: near the gradient in float32 in every batch"
        here = f"{show.between(medians, '.1f')} % off in the median, {100 * largest:.0f} % at worst"
        yield Claim(statement, f"aim: {100 * NEAR:.0f} % off at most", here, largest <= NEAR)


def draw(result: Result):
    """Distance over β, the median and all batches."""
    panels = []
    for weights in WEIGHTS:
        parts: list[show.Part] = []
        for number, kind in enumerate(KINDS):
            values, color = result["gaps"][f"{weights}, {kind}"], f"C{number}"
            medians = [statistics.median(each) for each in values]
            parts.append(show.line(kind, medians, result["betas"], color=color))
            for batch in zip(*values, strict=True):
                parts.append(show.line(None, batch, result["betas"], ".", color=color, alpha=0.4))
        parts.append(show.level(1, "as large as the gradient"))
        title, label = f"{weights} weights, 4 layers", "relative distance from float32"
        panels.append(show.Panel(title, parts, label, "nudging factor β", "xy"))
    return show.figure([panels], legend=3, size=(5.5, 3.6), sharey=True)
