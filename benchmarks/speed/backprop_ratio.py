"""A training step of EP over one of backpropagation in the same net.

VGG-7 at full and quarter width, whole steps as train.py runs them: augmentation, all devices, the
batch in shares, the optimizer. Each way has beside it the net of the same couplings and activations
as a feedforward one, trained by backpropagation. All take turns within each round; of two steps in
a row the second is timed, as they follow one another in training. Medians are compared. Images are
of independent pixels: of a tolerance the sweeps that it took are told.

The share of the matmul rate: the products of the sweeps alone, each sweep in full and by direct
convolutions, over the time of the whole step, beside one large matrix product.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from benchmarks.paper.systems import feedforward
from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from jaxep.core.stencils import STENCILS
from jaxep.training import parallel, steps
from jaxep.training.loop import make_task
from jaxep.training.settings import Settings

NETS: dict[str, dict[str, Any]] = {
    "VGG-7": {"conv": "64 M 128 M 256 M 512 M 512 M", "hidden": (512,)},
    "VGG-7, quarter width": {"conv": "16 M 32 M 64 M 128 M 128 M", "hidden": (128,)},
}


class Way(NamedTuple):
    """A way to train, and how many times the step of backprop its step may take."""

    run: Run
    aim: float


_FIXED: dict[str, Any] = {"solver": "fixed", "relaxation": 1.0, "t_free": 16, "t_nudge": 8}
WAYS = {
    "EP, 16 + 8 sweeps": Way(Run("vgg7_std", _FIXED), 10),
    "EP, default tolerances": Way(Run("vgg7_std"), 25),
    "predictive coding, centered": Way(Run("cifar10_pc"), 4.5),
    "predictive coding, one phase": Way(Run("cifar10_pc", {"ep_variant": "random_sign"}), 2.5),
}
ARGUMENTS = {"nets": tuple(NETS), "--batch": 32, "--rounds": 9}
# Share of the matmul rate that EP's fixed sweeps are to reach.
SHARE = {"EP, 16 + 8 sweeps": 0.7}
# Which is where an untrained net learns quietly enough that no update overflows.
RATE = 1e-3


class Trainer:
    """A run that goes on by one update whenever it is called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        data = workload.pixels(settings, settings.batch_size)
        self.task, self.key = make_task(settings, data), jax.random.key(0)
        state = steps.init_state(self.task, self.key)
        self.state, self.split = parallel.replicated((state, data.train), self.task.mesh)

    def __call__(self) -> jax.Array:
        """One update; returns how many are done."""
        size, stop = self.settings.batch_size, self.state.step + 1
        self.state = steps.train_chunk(self.task, size, self.state, self.split, stop, self.key, 0.0)
        return self.state.step

    def mean(self, metric: str) -> float:
        """Of a metric over all updates so far."""
        return float(self.state.totals[metric] / self.state.step)


def second(trainer: Trainer) -> float:
    """Seconds of an update right after another."""
    jax.block_until_ready(trainer())
    return workload.seconds(trainer)


def pair(way: Way, net: dict[str, Any], batch: int) -> dict[str, Trainer]:
    """A way to train a net, and backpropagation in that net."""
    settings = settings_of(way.run.but(**net, batch_size=batch, learning_rates=RATE))
    twin = feedforward(settings)
    assert twin is not None
    return {"step": Trainer(settings), "backprop": Trainer(twin)}


def measure_net(net: str, batch: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds in which all ways and their twins take turns."""
    pairs = {name: pair(way, NETS[net], batch) for name, way in WAYS.items()}
    trainers = {(name, kind): own for name, both in pairs.items() for kind, own in both.items()}
    clocks: dict[Any, Callable[[], float]] = {
        key: functools.partial(second, trainer) for key, trainer in trainers.items()
    }
    clocks["matmul"] = workload.matmul_seconds()
    workload.medians(clocks, 1)  # compiles
    times = workload.medians(clocks, rounds)
    rate = workload.matmul_flops() / times["matmul"]
    ways = {}
    for name, both in pairs.items():
        lost = [kind for kind, trainer in both.items() if trainer.mean("skipped")]
        if lost:
            raise SystemExit(f"{net}, {name}: an update of {lost[0]} was not finite: not timed")
        way = {
            **{f"{kind}_ms": 1e3 * times[name, kind] for kind in both},
            "free_steps": both["step"].mean("free_steps"),
            "nudge_steps": both["step"].mean("nudge_steps"),
        }
        if way["free_steps"]:
            way["sweeps_gflop"] = sweeps_gflop(both["step"].settings, way)
        ways[name] = way
    return {"batch": batch, "rounds": rounds, "matmul_gflops": rate / 1e9, "ways": ways}


def sweeps_gflop(settings: Settings, way: dict[str, float]) -> float:
    """GFLOP of all sweeps of a training step, each in full."""
    phases = len(STENCILS[settings.ep_variant].phases)
    sweeps = way["free_steps"] + phases * way["nudge_steps"]
    network = systems.model_of(settings).network
    return sweeps * workload.step_flops(network, settings.batch_size) / 1e9


def measure(options: Options) -> Result:
    """The nets that are named, the others' results kept."""
    own = options.own
    jax.config.update("jax_enable_compilation_cache", False)
    of = functools.partial(measure_net, batch=own.batch, rounds=own.rounds)
    return options.each(own.nets, NETS, of)


def ratio(way: dict[str, float]) -> float:
    """Time of a step over backprop's."""
    return way["step_ms"] / way["backprop_ms"]


def share(row: dict[str, Any], way: dict[str, float]) -> float | None:
    """Of the matmul rate; None where no sweeps were counted."""
    if "sweeps_gflop" not in way:
        return None
    return 1e3 * way["sweeps_gflop"] / row["matmul_gflops"] / way["step_ms"]


def table(result: Result) -> str:
    """Milliseconds, ratios, sweeps and shares of the matmul rate."""
    rows = []
    for net, row in show.known(NETS, result):
        for name, way in show.known(WAYS, row["ways"]):
            reached = share(row, way)
            line = [
                f"{net}, {row['batch']}",
                name,
                f"{way['free_steps']:.0f} + {way['nudge_steps']:.0f}",
                f"{way['step_ms']:.0f}",
                f"{way['backprop_ms']:.0f}",
                f"{ratio(way):.1f}",
                "–" if reached is None else f"{100 * reached:.0f}",
            ]
            rows.append(line)
    header = ["net, batch", "way", "sweeps, free + nudged", "step, ms", "backprop, ms", "ratio"]
    return show.markdown([*header, "of the matmul rate, %"], rows)


def claims(result: Result) -> Claims:
    """Each ratio beside its aim."""
    for net, row in show.known(NETS, result):
        for name, way in show.known(WAYS, row["ways"]):
            aim, found = WAYS[name].aim, ratio(way)
            statement = f"{net}: a step of {name} takes few of backprop"
            yield Claim(statement, f"aim: {aim:g} at most", f"{found:.1f}", found <= aim)
            reached = share(row, way)
            if name in SHARE and reached is not None:
                statement = f"{net}: {name}, their products at the rate of a large one"
                wanted, here = f"aim: {100 * SHARE[name]:.0f} %", f"{100 * reached:.0f} %"
                yield Claim(statement, wanted, here, reached >= SHARE[name])


def draw(result: Result):
    """Bars of the ratios, a panel for each net."""
    panels = []
    for net, row in show.known(NETS, result):
        known = show.known(WAYS, row["ways"])
        ratios = {f"{name} (aim {WAYS[name].aim:g})": ratio(way) for name, way in known}
        told = f"step over backprop's, batch {row['batch']}"
        panels.append(show.Panel(net, [show.bars_along(ratios, "%.1f")], "", told))
    return show.figure([panels], size=(6.2, 2.0))
