"""What does less than float32 cost? python -m benchmarks.precision

How far the EP gradient is from that of the same phases in float32, over β, on a digits net with
random and with trained weights: with phases in bfloat16 (config.precision), and with the factors of
every product rounded as a GPU and a TPU do with float32 unless they are told not to, which train.py
does. That rounding is emulated, so that it can be measured anywhere. Over some batches, as one
image that finds another equilibrium outweighs all else. And what accuracy training in float32 and
in bfloat16 reaches. Results: results/precision.json and .png.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import show, systems
from benchmarks.provenance import RESULTS, save
from benchmarks.runs import Run
from benchmarks.solvers import SHALLOW, digits, error, trained
from jaxep import cli as train
from jaxep.core import estimators, solvers
from jaxep.core.sweep import Energy
from jaxep.nets import heads as signals
from jaxep.nets.couplings import Conv, LoweringName
from jaxep.training import steps as updates

BETAS = (0.03, 0.1, 0.3, 1.0, 2.0)
FREE, NUDGE = (solvers.Fixed(steps, "alternating", 1.4) for steps in (60, 30))
EPOCHS = 8
BATCHES, IMAGES = 6, 40
WEIGHTS = {"random": 0, "trained": 4}  # epochs


def near(tree: Any, bits: int) -> Any:
    """Floats rounded to `bits` binary places after the first; derivatives pass unchanged."""

    def nearest(leaf: jax.Array) -> jax.Array:
        return leaf + jax.lax.stop_gradient(jax.lax.reduce_precision(leaf, 8, bits) - leaf)

    return jax.tree.map(nearest, tree)


def rounded(bits: int, model: Energy, x: jax.Array) -> tuple[Energy, jax.Array]:
    """The model and its input with the factors of all products rounded, biases with them.

    Exact for backends' own convolutions, whose prepared kernels are the rounded ones.
    """
    recall = model.recall
    assert recall is not None
    coarse = dataclasses.replace(
        model,
        prepare=lambda params, x: model.prepare(near(params, bits), x),
        recall=lambda params, x, states, memory: recall(
            near(params, bits), x, near(states, bits), memory
        ),
        loss=lambda params, states, targets: model.loss(
            near(params, bits), near(states, bits), targets
        ),
    )
    return coarse, near(x, bits)


def bfloat16(model: Energy, x: jax.Array) -> tuple[Energy, jax.Array]:
    """Phases take the type of their input: config.precision."""
    return model, x.astype(jnp.bfloat16)


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
    couplings = tuple(
        dataclasses.replace(coupling, lowering=lowering) if isinstance(coupling, Conv) else coupling
        for coupling in system.network.couplings
    )
    network = dataclasses.replace(system.network, couplings=couplings)
    return signals.energy(network, system.signal)


def gaps(system: systems.System, params: Any, kind: Kind) -> list[list[float]]:
    """Relative distance from the float32 gradient: for each β, over the batches."""

    @functools.partial(jax.jit, static_argnums=0)
    def both(lowering, x, targets, beta):
        model = lowered(system, lowering)
        of = estimators.EP(beta, FREE, NUDGE).value_and_grad
        return [
            of(energy)(params, (image, targets), jax.random.key(0))[1]
            for energy, image in ((model, x), kind.change(model, x))
        ]

    def gap(beta: float, first: int) -> float:
        wide, narrow = both(kind.lowering, *system.batch(IMAGES, first=first), jnp.float32(beta))
        return error(narrow, wide)

    return [[gap(beta, IMAGES * i) for i in range(BATCHES)] for beta in BETAS]


def accuracy(precision: str) -> float:
    """Test accuracy after `EPOCHS` of the shallow digits net."""
    changes = {**SHALLOW, "precision": precision, "epochs": EPOCHS}
    settings, data, task, state = trained(EPOCHS, "digits_le", changes)
    arguments = state.params, state.extra, data.test, jax.random.key(1)
    return float(updates.evaluate(task, settings.eval_batch_size, *arguments)[1])


def draw(found: dict[str, list[list[float]]]) -> None:
    """Distance over β, the median and all batches: results/precision.png."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, weights in zip(figure.subplots(1, 2, sharey=True), WEIGHTS, strict=True):
        for color, kind in enumerate(KINDS):
            values = found[f"{weights}, {kind}"]
            medians = [statistics.median(each) for each in values]
            axis.loglog(BETAS, medians, color=f"C{color}", label=kind)
            axis.loglog(BETAS, values, ".", color=f"C{color}", alpha=0.4)
        axis.axhline(1, color="0.6", linestyle=":", label="as large as the gradient")
        axis.set(xlabel="nudging factor β", title=f"{weights} weights, 4 layers")
    figure.axes[0].set_ylabel("relative distance from float32")
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", fontsize="small")
    figure.savefig(RESULTS / "precision.png", dpi=150)


def table(result: dict[str, Any]) -> str:
    """Median distance over β, the largest in brackets, and the accuracies, as Markdown."""
    header = ["weights, what is less precise", *(f"β {beta:g}" for beta in result["betas"])]
    rows = [
        [name, *(f"{statistics.median(each):.3f} ({max(each):.3f})" for each in values)]
        for name, values in result["gaps"].items()
    ]
    reached = ", ".join(f"{100 * v:.1f} % in {k}" for k, v in result["test_accuracy"].items())
    trained = f"Test accuracy after {result['epochs']} epochs: {reached}."
    return f"{show.markdown(header, rows)}\n\n{trained}"


def main() -> None:
    """Prints and saves both."""
    train.prepare_jax()
    system = systems.system(Run("digits_le", SHALLOW))
    found = {}
    for weights, epochs in WEIGHTS.items():
        params = digits(epochs, "digits_le", SHALLOW).params
        for name, kind in KINDS.items():
            found[f"{weights}, {name}"] = gaps(system, params, kind)
    reached = {kind: accuracy(kind) for kind in ("float32", "bfloat16")}
    result = {"betas": BETAS, "gaps": found, "epochs": EPOCHS, "test_accuracy": reached}
    save("precision", result)
    print(table(result))
    draw(found)


if __name__ == "__main__":
    main()
