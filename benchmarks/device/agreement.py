"""Does the device compute what it should? States and gradients against float64 on its CPU.

The reference is the textbook Φ under jax.grad in float64. Each lowering of a convolution is
measured in each precision: the states of each sample after some steps from zero and at the end of
the free phase, and the gradient of each batch. Where rounding decides a near tie in a pool the
other way, a sample takes another path for good: hence medians, with the worst beside them.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.baselines import textbook
from benchmarks.device.precisions import PRECISIONS
from benchmarks.device.rows import ON_CPU, Clock, Row, bounded, fill, longest, measured, missing
from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Options, Result
from benchmarks.shared.workload import Problem
from benchmarks.speed.step_time import CHECKED_STEPS, from_zero
from jaxep import EP, Energy, Fixed
from jaxep.nets.methods import LoweringName
from jaxep.run.fingerprints import named_leaves

ESTIMATOR = EP(0.25, Fixed(60, "alternating", 1.7), Fixed(20, "alternating", 1.7))
LOWERINGS: tuple[LoweringName, ...] = ("convolution", "winograd", "patches", "pairs", "dense")
EARLY, FREE, GRADIENT = "early", "free", "gradient"
Arrays = dict[str, np.ndarray]


class Size(NamedTuple):
    """A net, the images of a batch, and how many batches."""

    net: str
    images: int
    batches: int


SIZES = {"paper": Size("vgg7", 8, 3), "tiny": Size("tiny", 2, 2)}


def finding(energy: Energy) -> Callable[[Problem], Arrays]:
    """Early states, free states and gradient of a batch, by names that begin with the kind."""

    @jax.jit
    def compute(params: Any, start: Any, batch: Any) -> dict[str, Any]:
        early = workload.sweeps(energy, "synchronous", params, start, CHECKED_STEPS)
        _, grads, aux = ESTIMATOR.value_and_grad(energy)(params, batch, jax.random.key(0))
        return {EARLY: early, FREE: aux.free.states, GRADIENT: grads}

    def find(p: Problem) -> Arrays:
        found = named_leaves(compute(p.params, from_zero(p), p.batch))
        return {name: np.asarray(leaf, np.float64) for name, leaf in found.items()}

    return find


def batches(p: Problem, size: Size) -> list[Problem]:
    """The problem cut into batches."""
    parts = [slice(i * size.images, (i + 1) * size.images) for i in range(size.batches)]
    cut = [jax.tree.map(lambda leaf, at=at: leaf[at], p.batch) for at in parts]
    return [p._replace(x=x, targets=targets) for x, targets in cut]


def whole(size: Size) -> Problem:
    """All batches in one."""
    return workload.problem(size.net, size.images * size.batches)


def reference(size: Size, folder: str) -> Result:
    """Writes the problem and what float64 finds, for `compare`; for a fresh process on the CPU."""
    workload.whole_batch_on_one_device()
    p = whole(size)
    np.savez(Path(folder, "given.npz"), *map(np.asarray, jax.tree.leaves((p.params, p.batch))))
    with jax.enable_x64(True):
        params, x, targets = systems.as_float64((p.params, *p.batch))
        network = p.network
        phi = functools.partial(textbook.phi, network)
        rest = (p.energy.loss, p.energy.init_states, network.activations, network.blocks)
        find = finding(Energy(phi, *rest))
        for number, own in enumerate(batches(Problem(p.model, p.energy, params, x, targets), size)):
            found: dict[str, Any] = find(own)
            np.savez(Path(folder, f"found{number}.npz"), **found)
    return {}


def given(size: Size, folder: str) -> Problem:
    """The problem of `reference`: another device may draw other random numbers in the last bit."""
    p = whole(size)
    with np.load(Path(folder, "given.npz")) as file:
        leaves = [jax.numpy.asarray(file[name]) for name in file.files]
    params, batch = jax.tree.unflatten(jax.tree.structure((p.params, p.batch)), leaves)
    return Problem(p.model, p.energy, params, *batch)


def distances(found: Arrays, exact: Arrays, kind: str, axis: bool) -> np.ndarray:
    """||a - b|| / ||b|| over the arrays of a kind: of each sample, or with no axis of all."""
    names = [name for name in exact if name.startswith(f"{kind}.")]

    def squares(arrays: Sequence[np.ndarray]) -> np.ndarray:
        rows = [a.reshape(len(a) if axis else 1, -1) for a in arrays]
        return sum((np.square(row).sum(1) for row in rows), np.zeros(1))

    wrong = squares([found[name] - exact[name] for name in names])
    return np.sqrt(wrong / squares([exact[name] for name in names]))


def compare(size: Size, folder: str, lowering: LoweringName) -> Result:
    """For each precision the distances of one lowering from float64; for a fresh process."""
    workload.whole_batch_on_one_device()
    p = given(size, folder)
    model = workload.lowered(p.model, lowering)
    find, rows = finding(model.energy()), {}
    for name, precision in PRECISIONS.items():
        kinds: dict[str, list[float]] = {EARLY: [], FREE: [], GRADIENT: []}
        for number, own in enumerate(batches(p, size)):
            with np.load(Path(folder, f"found{number}.npz")) as file:
                exact = dict(file)
            with precision.of(own) as rounded:
                found = find(rounded)
            for kind, values in kinds.items():
                values += distances(found, exact, kind, kind != GRADIENT).tolist()
        rows[name] = kinds
    return {"net": size.net, "images": size.images, "precisions": rows}


def measure(options: Options, clock: Clock, share: float) -> None:
    """All lowerings; the reference is computed again where any of them is missing."""
    size = SIZES[options.scale]
    rows = {f"{size.net}, {name}": name for name in LOWERINGS}
    if not missing(options, rows):
        return
    with tempfile.TemporaryDirectory(dir=options.results) as folder:
        clock.tell(f"{options.name}: {size.net} in float64 on the CPU")
        bounded(longest(clock, share), Row(reference, (size, folder), ON_CPU))
        fill(
            options,
            clock,
            share,
            {row: Row(compare, (size, folder, name)) for row, name in rows.items()},
        )


def table(result: Result) -> str:
    """Median distance of each kind by lowering and precision, the largest in brackets."""
    header = ["net, lowering", "precision", f"states, {CHECKED_STEPS} steps", "free states"]
    lines = []
    for name, row in measured(result).items():
        for precision, kinds in row["precisions"].items():
            told = [f"{statistics.median(v):.1e} ({max(v):.1e})" for v in kinds.values()]
            lines.append([name, precision, *told])
    return show.markdown([*header, "gradient"], lines)
