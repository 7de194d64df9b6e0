"""Every system of the literature on digits under one budget: 20 epochs of 55 updates of 26 images.

Accuracy over three seeds; cosine of the estimate to the exact gradient at the start and the end;
time of a training step over that of backpropagation in the same net. Each row's other settings are
those of its file in configs/. Rows that are not named keep what an earlier command measured.
"""

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.shared import runs, show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run
from jaxep.run.checkpoints import read_state
from jaxep.training.loop import make_task
from jaxep.training.settings import Settings
from jaxep.training.tasks import Task
from jaxep.training.workdata import load_data

BUDGET: dict[str, Any] = {"epochs": 20, "batch_size": 26}
SEEDS = (0, 1, 2)
# Images of the comparison with the exact gradient; rounds of the clock.
IMAGES, ROUNDS = 104, 9
# Title, and the file of configs/ with the keys that are changed.
ROWS: dict[str, tuple[str, Run]] = {
    "hopfield": ("convolutional Hopfield net, local errors (the paper)", Run("digits_le")),
    "hopfield_std": ("the same without signals", Run("digits_std")),
    "predictive_coding": ("predictive coding net", Run("digits_pc")),
    "predictive_coding_random_sign": (
        "the same, one nudged phase of random sign",
        Run("digits_pc", {"ep_variant": "random_sign"}),
    ),
    "resnet_std": ("residual Hopfield net", Run("digits_resnet_std")),
    "resnet_le": ("the same, local errors", Run("digits_resnet_le")),
    "resnet_kd": ("the same, distillation", Run("digits_resnet_kd")),
    "holomorphic": ("holomorphic EP", Run("digits_holomorphic")),
    "holomorphic_centered": (
        "the same net and β by two real points",
        Run("digits_holomorphic", {"ep_variant": "centered"}),
    ),
    "holomorphic_four_point": (
        "the same net and β by four real points",
        Run("digits_holomorphic", {"ep_variant": "four_point"}),
    ),
    "untied": ("vector field, untied weights", Run("digits_untied")),
    "untied_naive": ("the same, naive contrast", Run("digits_untied", {"field_correction": False})),
    "continual": ("continual EP", Run("digits_continual")),
    "continual_not": (
        "the same net by EP, one-sided",
        Run("digits_continual", {"estimator": "ep"}),
    ),
    "binary": ("binary weights", Run("digits_binary")),
    "skips": ("layer skipping, 5 hidden layers", Run("digits_skips")),
    "skips_not": ("the same without skips", Run("digits_skips", {"wiring": "chain"})),
    "feedback": ("feedback scaled by a ratio", Run("digits_feedback")),
    "feedback_full": ("the same at ratio 1", Run("digits_feedback", {"feedback": 1.0})),
    "sequence": ("sequence of rows, retrieval", Run("digits_sequence")),
    "transformer": ("energy transformer over rows", Run("digits_transformer")),
    "transformer_no_attention": (
        "the same without attention",
        Run("digits_transformer", {"heads": 0}),
    ),
    "events": ("event-driven phases", Run("digits_events")),
    "blocks": ("12 layers as 4 EP blocks and batch norm", Run("digits_blocks")),
    "deep_le": ("12 layers as one net, local errors", Run("digits_deep_le")),
    "deep_std": ("12 layers as one net", Run("digits_deep_std")),
}
# What is expected to be more accurate than what: statement, where it comes from, and the two rows.
PAIRS = (
    ("Local errors beat none in a deep net", "the paper", "deep_le", "deep_std"),
    ("Local errors beat none in a residual net", "not in the papers", "resnet_le", "resnet_std"),
    (
        "Distillation beats none there as well",
        "not in the papers",
        "resnet_kd",
        "resnet_std",
    ),
    ("Layer skipping beats a chain", "Gammell et al. 2021", "skips", "skips_not"),
    ("The corrected contrast beats the naive one", "Scurria 2026", "untied", "untied_naive"),
    ("Weak feedback beats full, 12 layers", "Liu & Chen 2025", "feedback", "feedback_full"),
    ("Blocks beat one net without signals", "Nest & Ernoult 2024", "blocks", "deep_std"),
    ("Attention helps", "Høier et al. 2026", "transformer", "transformer_no_attention"),
    ("Points in the complex plane beat two", "of theory", "holomorphic", "holomorphic_centered"),
    ("Four real points beat two", "of theory", "holomorphic_four_point", "holomorphic_centered"),
)
ARGUMENTS = {"rows": tuple(ROWS)}
TOLD = ("test_accuracy", "training_seconds", "parameters", "command", "run_commit")
Gradients = Any


def run_of(name: str) -> Run:
    """A row's run under the budget."""
    return ROWS[name][1].but(**BUDGET)


def settings_of(run: Run, folder: Path) -> Settings:
    """The settings of a run whose teacher lies in `folder`, and whose images stay as they are."""
    settings = dataclasses.replace(runs.settings_of(run), augment=False)
    if settings.teacher:
        place = str(runs.teacher_place(run, folder))
        settings = dataclasses.replace(settings, teacher_workdir=place)
    return settings


def exactly(settings: Settings) -> Settings:
    """The same net with its exact gradient, at a settled equilibrium."""
    if not settings.t_free:
        return dataclasses.replace(settings, estimator="backprop")
    tight: dict[str, Any] = {"solver": "tolerance", "tol_free": 1e-6, "t_free": 2000}
    return dataclasses.replace(settings, estimator="implicit", field_correction=True, **tight)


def feedforward(settings: Settings) -> Settings | None:
    """The net of the same couplings as a feedforward one, trained by backpropagation."""
    if settings.task != "ep" or settings.system in WITHOUT_TWIN:
        return None
    plain: dict[str, Any] = {"system": "predictive_coding", "estimator": "backprop", "t_free": 0}
    plain |= {"solver": "fixed", "feedback": 1.0, "alignment": 0.0, "field_correction": True}
    return dataclasses.replace(settings, **plain, ep_variant="centered")


# Systems that are no graph of couplings: backpropagation in the same net means nothing there.
WITHOUT_TWIN = ("sequence", "energy_transformer")


def gradient(task: Task, weights: tuple[Any, Any], batch: tuple[jax.Array, jax.Array]) -> Gradients:
    """What an update of the task takes for the gradient."""
    params, extra = weights
    step = jnp.zeros((), jnp.int32)
    return jax.jit(task.update)(params, extra, step, *batch, jax.random.key(0))[0]


def cosines(run: Run, folder: Path) -> dict[str, float]:
    """Cosine of the estimate to the exact gradient, over all weights, at the start and the end."""
    settings = settings_of(run, folder)
    data = load_data(settings)
    estimated, exact = (make_task(s, data) for s in (settings, exactly(settings)))
    start = estimated.init(jax.random.fold_in(jax.random.key(settings.seed), 0))
    shapes = jax.eval_shape(lambda: {"params": start[0], "extra": start[1]})
    end, _ = read_state(runs.place(run, folder), shapes)
    batch = data.test.images[:IMAGES], data.test.labels[:IMAGES]
    found = {}
    for when, weights in (("start", start), ("end", (end["params"], end["extra"]))):
        pair = [gradient(task, weights, batch) for task in (estimated, exact)]
        found[when] = systems.cosine(*pair)
    return found


def step_seconds(run: Run, folder: Path) -> dict[str, float]:
    """Median seconds of the gradient of one batch by EP, and by backprop in the same net."""
    settings = settings_of(run, folder)
    data = load_data(settings)
    batch = data.train.images[: settings.batch_size], data.train.labels[: settings.batch_size]
    clocks = {}
    for name, own in (("ep", settings), ("backprop", feedforward(settings))):
        if own is not None:
            task = make_task(own, data)
            update = jax.jit(task.update)
            given = *task.init(jax.random.key(0)), jnp.zeros((), jnp.int32), *batch
            call = (update, *given, jax.random.key(0))
            jax.block_until_ready(update(*call[1:]))
            clocks[name] = lambda call=call: workload.seconds(*call)
    return workload.medians(clocks, ROUNDS)


def measure(options: Options) -> Result:
    """The rows that are named, one after the other."""
    result: Result = {"budget": BUDGET, "rows": options.kept("rows").get("rows", {})}
    for name in options.own.rows:
        run = run_of(name)
        trained = [runs.train_run(run.but(seed=seed), options.runs) for seed in SEEDS]
        row: dict[str, Any] = {key: [one[key] for one in trained] for key in TOLD}
        row["sweeps"] = {key: trained[0][key][-1] for key in ("free_steps", "nudge_steps")}
        row["cosine"] = cosines(run.but(seed=SEEDS[0]), options.runs)
        row["step_seconds"] = step_seconds(run, options.runs)
        result["rows"][name] = row
        options.keep(result)
    return result


def ratio(row: dict[str, Any]) -> float | None:
    """Time of a training step over backprop's, where there is such a net."""
    clock = row["step_seconds"]
    return clock["ep"] / clock["backprop"] if "backprop" in clock else None


def table(result: Result) -> str:
    """Accuracy, sweeps, seconds, cosines and the time ratio of each row."""
    rows = []
    for name, row in show.known(ROWS, result["rows"]):
        title, run = ROWS[name]
        sweeps = [row["sweeps"][key] for key in ("free_steps", "nudge_steps")]
        told = [row["cosine"][when] for when in ("start", "end")]
        times = ratio(row)
        rows.append(
            [
                title,
                show.percent(row["test_accuracy"]),
                " + ".join("–" if count is None else f"{count:.0f}" for count in sweeps),
                f"{statistics.median(row['training_seconds']):.0f}",
                *("–" if value is None else f"{value:.3f}" for value in told),
                f"{times:.1f}" if times else "–",
                f"`configs/{run.config}.py`",
            ]
        )
    header = ["system", "test accuracy, %", "sweeps, free + nudged", "seconds"]
    header += ["cosine, start", "cosine, end", "step / backprop's", "config"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """What the issue of a system is, judged where its rows are there."""
    rows = result["rows"]
    if "predictive_coding" in rows:
        reached = rows["predictive_coding"]["test_accuracy"]
        here, holds = f"{show.percent(reached)} %", statistics.mean(reached) >= 0.98
        yield Claim("A predictive coding net learns digits", "aim: 98 %", here, holds)
    for statement, source, more, less in PAIRS:
        if more in rows and less in rows:
            found = [rows[name]["test_accuracy"] for name in (more, less)]
            here = " against ".join(f"{show.percent(one)} %" for one in found)
            statement = f"{statement} (its worst seed against the best)"
            yield Claim(statement, source, here, min(found[0]) > max(found[1]))


def draw(result: Result):
    """Accuracies, cosines and time ratios of all rows, side by side."""
    named = show.known(ROWS, result["rows"])
    names = [name.replace("_", " ") for name, _ in named]
    rows = [row for _, row in named]
    places = range(len(rows))

    def accuracy(axis: Any) -> None:
        for place, row in zip(places, rows, strict=True):
            each = show.percents(row["test_accuracy"])
            axis.plot(each, [place] * len(each), "o", color="C0", ms=4, alpha=0.7)
        _name(axis, names)

    def cosine(axis: Any) -> None:
        for when, style in (("start", "o"), ("end", "x")):
            values = [row["cosine"][when] for row in rows]
            axis.plot(
                [float("nan") if v is None else v for v in values], places, style, label=when, ms=5
            )
        _name(axis, [""] * len(names))

    def times(axis: Any) -> None:
        axis.barh(places, [ratio(row) or 0 for row in rows], color="C0")
        _name(axis, [""] * len(names))

    panels = [
        show.Panel("three seeds", [accuracy], "", "test accuracy, %"),
        show.Panel("to the exact gradient", [cosine], "", "cosine", legend="lower left"),
        show.Panel("a training step over backprop's", [times], "", "time ratio"),
    ]
    return show.figure([panels], size=(4.4, 1.2 + 0.28 * len(rows)))


def _name(axis: Any, names: list[str]) -> None:
    """One line of the picture for each name, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["systems", *sys.argv[1:]])
