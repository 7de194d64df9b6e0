"""What does less than float32 cost? python -m benchmarks.precision

How far the EP gradient is from that of the same phases in float32, over β, on a digits net with
random and with trained weights: with phases in bfloat16 (config.precision), and with the factors of
every product rounded as a GPU and a TPU do with float32 unless they are told not to, which train.py
does; that rounding is emulated, so that it can be measured anywhere. And what accuracy training in
float32 and in bfloat16 reaches. Results: results/precision.json and .png.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import train
from benchmarks import show, systems
from benchmarks.provenance import RESULTS, save
from benchmarks.runs import Run
from benchmarks.solvers import SHALLOW, Problem, digits, error, trained
from jaxep import estimators, signals, solvers, updates
from jaxep.couplings import Conv
from jaxep.primitive import Energy

BETAS = (0.03, 0.1, 0.3, 1.0, 2.0)
FREE, NUDGE = (solvers.Fixed(steps, "alternating", 1.4) for steps in (60, 30))
EPOCHS = 8


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


# What makes a model and its input less precise.
KINDS: dict[str, Callable[[Energy, jax.Array], tuple[Energy, jax.Array]]] = {
    "bfloat16 phases": lambda model, x: (model, x.astype(jnp.bfloat16)),
    "bfloat16 products (TPU)": functools.partial(rounded, 7),
    "TensorFloat-32 products (GPU)": functools.partial(rounded, 10),
}


def plain(epochs: int) -> Problem:
    """The shallow digits net after `epochs`, computed by the backend's own convolutions."""
    p = digits(epochs, "digits_le", SHALLOW)
    mine = systems.system(Run("digits_le", SHALLOW))
    couplings = tuple(
        dataclasses.replace(coupling, lowering="convolution")
        if isinstance(coupling, Conv)
        else coupling
        for coupling in mine.network.couplings
    )
    network = dataclasses.replace(mine.network, couplings=couplings)
    return p._replace(model=signals.energy(network, mine.signal))


def gap(p: Problem, kind: str, beta: float) -> float:
    """Relative distance of a less precise gradient from the float32 one."""
    ep = estimators.EP(beta, FREE, NUDGE)
    x, targets = p.batch
    wide, narrow = (
        jax.jit(ep.value_and_grad(model))(p.params, (image, targets), jax.random.key(0))[1]
        for model, image in ((p.model, x), KINDS[kind](p.model, x))
    )
    return error(narrow, wide)


def accuracy(precision: str) -> float:
    """Test accuracy after `EPOCHS` of the shallow digits net."""
    changes = {**SHALLOW, "precision": precision, "epochs": EPOCHS}
    settings, data, task, state = trained(EPOCHS, "digits_le", changes)
    arguments = state.params, state.extra, data.test, jax.random.key(1)
    return float(updates.evaluate(task, settings.eval_batch_size, *arguments)[1])


def draw(gaps: dict[str, list[float]]) -> None:
    """Distance over β: results/precision.png."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for name, values in gaps.items():
        weights, kind = name.split(", ")
        style = "-" if weights == "trained" else ":"
        color = f"C{list(KINDS).index(kind)}"
        axis.loglog(BETAS, values, style, color=color, marker="o", label=name)
    axis.axhline(1, color="0.6", linestyle=":", label="as large as the gradient")
    axis.set(xlabel="nudging factor β", ylabel="relative distance from float32")
    axis.set_title("EP gradient below float32, 4 layers")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(RESULTS / "precision.png", dpi=150)


def table(result: dict[str, Any]) -> str:
    """Distances over β and the accuracies, as Markdown."""
    header = ["weights, what is less precise", *(f"β {beta:g}" for beta in result["betas"])]
    rows = [[name, *(f"{v:.3f}" for v in values)] for name, values in result["gaps"].items()]
    reached = ", ".join(f"{100 * v:.1f} % in {k}" for k, v in result["test_accuracy"].items())
    trained = f"Test accuracy after {result['epochs']} epochs: {reached}."
    return f"{show.markdown(header, rows)}\n\n{trained}"


def main() -> None:
    """Prints and saves both."""
    train.prepare_jax()
    gaps = {}
    for name, epochs in (("random", 0), ("trained", 4)):
        problem = plain(epochs)
        for kind in KINDS:
            gaps[f"{name}, {kind}"] = [gap(problem, kind, beta) for beta in BETAS]
    reached = {kind: accuracy(kind) for kind in ("float32", "bfloat16")}
    result = {"betas": BETAS, "gaps": gaps, "epochs": EPOCHS, "test_accuracy": reached}
    save("precision", result)
    print(table(result))
    draw(gaps)


if __name__ == "__main__":
    main()
