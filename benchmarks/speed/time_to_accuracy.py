"""How soon does each code reach an accuracy, from the same weights, images and order of batches?

A Hopfield net of three weighted layers on digits, trained by jaxep (default phases, 16 + 8 sweeps,
the paper's 250 + 50 synchronous steps), by plain PyTorch and by the public code of a checkout
(--peer), both with the paper's steps; by backpropagation as a feedforward net; and a predictive
coding net of the same convolutions, by EP and by backpropagation. All take turns, some updates
each; a clock runs in training alone, and compilation is told apart. An engine stops at the highest
accuracy that is asked for, or when its --budget of seconds is spent.
"""

import functools
import math
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.paper.systems import feedforward
from benchmarks.shared import show
from benchmarks.shared.race import Engine, race, seconds_to, turns
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from benchmarks.shared.systems import System
from benchmarks.speed.step_time import has_torch
from jaxep.training import parallel
from jaxep.training.data import Dataset, Split
from jaxep.training.loop import make_task
from jaxep.training.networks import build_model
from jaxep.training.settings import Settings
from jaxep.training.steps import epoch_batches, evaluate, init_state, train_chunk
from jaxep.training.tasks import network_input
from jaxep.training.workdata import load_data

SHARED: dict[str, Any] = {
    "dataset": "digits",
    "augment": False,
    "conv": "32 M 64 M",
    "hidden": (),
    "batch_size": 32,
    "epochs": 30,
    "lr_schedule": "constant",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 3e-4,
}
# Feedforward nets learn at three times the rate; EP in the Hopfield net is less sure there.
SHARED_RATE = 0.01
HOPFIELD = Run("base", {**SHARED, "learning_rates": SHARED_RATE})
CODING = Run("digits_pc", {**SHARED, "learning_rates": 0.03, "gain": 1.0, "t_nudge": 3})
FEW: dict[str, Any] = {"solver": "fixed", "relaxation": 1.0, "t_free": 16, "t_nudge": 8}
PAPER: dict[str, Any] = {"solver": "fixed", "relaxation": 1.0, "order": "synchronous"}
TARGETS = (0.90, 0.95, 0.97)
# Updates of a turn.
EVERY = 11
DEFAULT, PEER, TORCH = "jaxep, default", "peer, paper's steps", "PyTorch, paper's steps"
FASTER = 20
ARGUMENTS = {"--peer": "", "--budget": 150.0}


def methods(changes: Mapping[str, Any]) -> dict[str, Settings]:
    """What jaxep trains, by name; `changes`: of all runs alike."""
    few = settings_of(HOPFIELD.but(**FEW).but(**changes))
    coding = settings_of(CODING.but(**changes))
    faster = settings_of(HOPFIELD.but(**FEW, learning_rates=0.03).but(**changes))
    plain = {"backprop": feedforward(faster), "backprop, relu": feedforward(coding)}
    return {
        DEFAULT: settings_of(HOPFIELD.but(**changes)),
        "jaxep, 16 + 8 sweeps": few,
        "jaxep, paper's steps": settings_of(HOPFIELD.but(**PAPER).but(**changes)),
        "jaxep, predictive coding": coding,
        **{f"jaxep, {name}": own for name, own in plain.items() if own is not None},
    }


def key_of(settings: Settings, count: int, step: int) -> jax.Array:
    """The key of the epoch of an update, of `count` training images."""
    epoch = step // (count // settings.batch_size)
    return jax.random.fold_in(jax.random.key(settings.seed), epoch + 1)


def jaxep_engine(settings: Settings, data: Dataset) -> Engine:
    """The library as train.py runs it."""
    task = make_task(settings, data)
    key = jax.random.key(settings.seed)
    everything = init_state(task, jax.random.fold_in(key, 0)), data.train, data.test
    state, train, test = parallel.replicated(everything, task.mesh)

    def run(state: Any, first: int, stop: int) -> Any:
        epoch = key_of(settings, len(train.labels), first)
        state = train_chunk(task, settings.batch_size, state, train, stop, epoch, math.inf)
        return jax.block_until_ready(state)

    def accuracy(state: Any) -> float:
        weights = state.params, state.extra
        return float(evaluate(task, len(test.labels), *weights, test, key)[1])

    return Engine(state, run, accuracy)


def torch_engines(settings: Settings, data: Dataset, peer: str) -> dict[str, Engine]:
    """Plain PyTorch, and the public code of a checkout, with the steps and weights of a run."""
    from benchmarks.baselines import peer as peer_code
    from benchmarks.baselines import torch_reference

    model = build_model(settings, data.image_shape, data.num_classes)
    network = model.network
    params = System(settings, model, model.energy(), data).initial()
    seen, judged = (
        torch_reference.from_jax(network, params, _input(settings, data, split), split.labels)
        for split in (data.train, data.test)
    )
    engine = functools.partial(_torch_engine, settings, network, judged)
    found = {TORCH: engine(torch_reference, seen)}
    if peer:
        found[PEER] = engine(peer_code, peer_code.build(peer_code.load(peer), network, seen))
    return found


def _input(settings: Settings, data: Dataset, split: Split) -> jax.Array:
    return network_input(settings, data.mean, data.std, split.images)


def _torch_engine(settings: Settings, network: Any, judged: Any, code: Any, model: Any) -> Engine:
    import torch

    from benchmarks.baselines import torch_reference, torch_training

    count, size = len(model.labels), settings.batch_size
    places = Split(jnp.arange(count), jnp.zeros(count, jnp.int32))
    start, many = (torch_reference.zeros(network, n) for n in (size, len(judged.labels)))
    phases = torch_training.Phases(settings.beta, settings.t_free, settings.t_nudge)
    rule = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
    rule |= {"lr": SHARED_RATE}
    learn = torch_training.trainer(code, model, start, phases, **rule)

    def train(state: Any, first: int, stop: int) -> Any:
        batch_at = epoch_batches(size, places, key_of(settings, count, first))
        learn(torch.from_numpy(np.array(batch_at(step)[0])) for step in range(first, stop))
        return state

    def accuracy(state: Any) -> float:
        all_test = state._replace(x=judged.x, labels=judged.labels)
        return torch_training.accuracy(code, all_test, many, settings.t_free)

    return Engine(model, train, accuracy)


def engines(peer: str, **changes: Any) -> dict[str, Engine]:
    """All that are compared, by name; `changes`: of all runs alike."""
    runs = methods(changes)
    data = load_data(runs[DEFAULT])
    found = {name: jaxep_engine(settings, data) for name, settings in runs.items()}
    if has_torch():
        found |= torch_engines(runs["jaxep, paper's steps"], data, peer)
    return found


def measure(options: Options) -> Result:
    """All engines on the digits."""
    jax.config.update("jax_enable_compilation_cache", False)
    own, settings = options.own, settings_of(HOPFIELD)
    each = len(load_data(settings).train.labels) // settings.batch_size
    found = race(engines(own.peer), turns(each, settings.epochs, EVERY), max(TARGETS), own.budget)
    shared = {"run": SHARED, "targets": TARGETS, "every": EVERY, "budget": own.budget}
    return {**shared, "engines": found}


def table(result: Result) -> str:
    """Seconds to each target, with compilation in brackets, and ratios to the default."""
    found, rows = result["engines"], []
    for name, row in found.items():
        update = 1e3 * row["seconds"][-1] / row["updates"][-1]
        cells = [name, f"{update:.1f}", f"{row['compile_s']:.1f}"]
        for target in result["targets"]:
            cells += _cells(row, found[DEFAULT], target)
        rows.append([*cells, f"{row['updates'][-1]}", f"{100 * max(row['accuracy']):.1f}"])
    header = ["engine", "update, ms", "compilation, s"]
    for target in result["targets"]:
        header += [f"s to {100 * target:.0f} % (with compilation)", "÷ default"]
    return show.markdown([*header, "updates in all", "best test accuracy, %"], rows)


def _cells(row: Mapping[str, Any], default: Mapping[str, Any], target: float) -> tuple[str, str]:
    own, other = (seconds_to(one, target) for one in (row, default))
    if own is None:
        return f"not in {row['seconds'][-1]:.0f}", ""
    told = f"{own:.2f} ({own + row['compile_s']:.1f})"
    return told, f"{own / other:.2f}" if other else ""


def claims(result: Result) -> Claims:
    """How much sooner the default is there than the two that run the paper's steps in PyTorch."""
    found, ours = result["engines"], result["engines"][DEFAULT]
    for other in (name for name in (PEER, TORCH) if name in found):
        for target in result["targets"]:
            here, holds = _sooner(ours, found[other], target)
            statement = f"{100 * target:.0f} % of test images: sooner than {other}"
            if other == PEER:
                yield Claim(statement, f"aim: {FASTER} times at least", here, holds)
            else:
                yield Claim(statement, "", here)


def _sooner(ours: Mapping[str, Any], theirs: Mapping[str, Any], target: float) -> tuple[str, Any]:
    """The ratio in words, and whether it is as large as is wanted; None: not known."""
    own, other = (seconds_to(row, target) for row in (ours, theirs))
    if own is None:
        return "not reached by the default", False
    least = theirs["seconds"][-1] if other is None else other
    whole = (least + theirs["compile_s"]) / (own + ours["compile_s"])
    over = "over " if other is None else ""
    told = f"{over}{least / own:.1f} times, {whole:.1f} with compilation"
    enough = least / own >= FASTER
    return told, enough if other is not None or enough else None


def draw(result: Result):
    """Accuracy over seconds of training."""
    parts: list[show.Part] = [
        show.level(100 * target, "targets" if target == result["targets"][0] else "_")
        for target in result["targets"]
    ]
    for number, (name, row) in enumerate(result["engines"].items()):
        style = "-o" if name.startswith("jaxep") else "--s"
        look = {"ms": 2.5, "lw": 1.2, "color": f"C{number}"}
        values = show.percents(row["accuracy"])
        parts.append(show.line(name, values, row["seconds"], style, **look))
    label = "test accuracy, %"
    panel = show.Panel("digits, three weighted layers", parts, label, "seconds of training", "x")
    return show.figure([[panel]], legend=2, size=(7.0, 5.4))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["time_to_accuracy", *sys.argv[1:]])
