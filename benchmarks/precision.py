"""What does bfloat16 cost? python -m benchmarks.precision

How far the EP gradient of phases in bfloat16 is from that of the same phases in float32, over β, on
a digits net with random and with trained weights; and what accuracy training in each reaches.
Results: results/precision.json and .png.
"""

from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import train
from benchmarks import show
from benchmarks.provenance import RESULTS, save
from benchmarks.solvers import SHALLOW, Problem, digits, error, trained
from jaxep import estimators, solvers, updates

BETAS = (0.03, 0.1, 0.3, 1.0, 2.0)
FREE, NUDGE = (solvers.Fixed(steps, "alternating", 1.4) for steps in (60, 30))
EPOCHS = 8


def gap(p: Problem, beta: float) -> float:
    """Relative distance of the bfloat16 gradient from the float32 one."""
    estimate = jax.jit(estimators.EP(beta, FREE, NUDGE).value_and_grad(p.model))
    x, targets = p.batch
    key = jax.random.key(0)
    wide, narrow = (
        estimate(p.params, (x.astype(kind), targets), key)[1]
        for kind in (jnp.float32, jnp.bfloat16)
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
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for name, values in gaps.items():
        axis.loglog(BETAS, values, marker="o", label=f"{name} weights")
    axis.axhline(1, color="0.6", linestyle=":", label="as large as the gradient")
    axis.set(xlabel="nudging factor β", ylabel="relative distance from float32")
    axis.set_title("EP gradient of bfloat16 phases, 4 layers")
    axis.legend(fontsize="small")
    figure.savefig(RESULTS / "precision.png", dpi=150)


def table(result: dict[str, Any]) -> str:
    """Distances over β and the accuracies, as Markdown."""
    header = ["weights", *(f"β {beta:g}" for beta in result["betas"])]
    rows = [[name, *(f"{v:.3f}" for v in values)] for name, values in result["gaps"].items()]
    reached = ", ".join(f"{100 * v:.1f} % in {k}" for k, v in result["test_accuracy"].items())
    trained = f"Test accuracy after {result['epochs']} epochs: {reached}."
    return f"{show.markdown(header, rows)}\n\n{trained}"


def main() -> None:
    """Prints and saves both."""
    train.prepare_jax()
    gaps = {}
    for name, epochs in (("random", 0), ("trained", 4)):
        problem = digits(epochs, "digits_le", SHALLOW)
        gaps[name] = [gap(problem, beta) for beta in BETAS]
    reached = {kind: accuracy(kind) for kind in ("float32", "bfloat16")}
    result = {"betas": BETAS, "gaps": gaps, "epochs": EPOCHS, "test_accuracy": reached}
    save("precision", result)
    print(table(result))
    draw(gaps)


if __name__ == "__main__":
    main()
