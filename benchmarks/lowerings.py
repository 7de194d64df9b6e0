"""Which way to compute a convolution is fastest? python -m benchmarks.lowerings [--rounds N]

One product forward and one backward in a loop, as a relaxation does, by each lowering, for the maps
and channels of VGG nets; the last convolution of the paper's VGG-5 has no padding. Each loop
prepares its kernels once, and takes at least 20 steps. `Conv.method` chooses by this table:
results/lowerings.json and .png.
"""

import argparse
import functools
import itertools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import show
from benchmarks.provenance import RESULTS, save
from benchmarks.workload import seconds
from jaxep import cli as train
from jaxep.nets.couplings import Conv, LoweringName
from jaxep.training.parallel import samples_over_devices

# (height and width below, padding)
MAPS = ((2, 1), (4, 0), (4, 1), (8, 1), (16, 1), (32, 1))
CHANNELS = (16, 32, 64, 128, 256, 512)
NAMES: tuple[LoweringName, ...] = ("convolution", "dense", "winograd")
BATCH = 32
LARGEST_MAP = {"convolution": 32, "dense": 4, "winograd": 32}
# Larger ones do not occur: a net's channels grow as its maps shrink.
LARGEST_LAYER = 32 * 32 * 64


def pair(conv: Conv, steps: int, params: Any, lower: jax.Array) -> jax.Array:
    """`steps` times: up through the coupling without its pool, and back down."""
    operators = conv.prepare(params)

    def body(_, state):
        upper, pull = jax.vjp(functools.partial(conv.apply, operators), state)
        return jnp.clip(pull(upper)[0], 0, 1)

    return jax.lax.fori_loop(0, steps, body, lower)


def measure(size: int, padding: int, channels: int, rounds: int) -> dict[str, float]:
    """Milliseconds of one pair by lowering: medians over interleaved rounds."""
    lower = jax.random.uniform(jax.random.key(0), (BATCH, size, size, channels))
    steps = max(20, 10**7 // (size**2 * channels**2))
    calls = {}
    for name in NAMES:
        if size <= LARGEST_MAP[name]:
            conv = Conv((size, size, channels), channels, padding=padding, lowering=name)
            params = conv.init(jax.random.key(1))
            run = jax.jit(
                lambda p, x, conv=conv: samples_over_devices(
                    functools.partial(pair, conv, steps), p, x
                )
            )
            calls[name] = functools.partial(
                lambda run, p: jax.block_until_ready(run(p, lower)), run, params
            )
            calls[name]()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(1e3 * seconds(call) / steps)
    return {name: statistics.median(values) for name, values in times.items()}


def table(result: dict[str, Any]) -> str:
    """Milliseconds of each lowering by map and channels, as Markdown."""
    rows = [
        [row["map"], row["padding"], row["channels"]]
        + [f"{row['ms'][name]:.3f}" if name in row["ms"] else "" for name in NAMES]
        for row in result["rows"]
    ]
    return show.markdown(["map", "padding", "channels", *(f"{name}, ms" for name in NAMES)], rows)


def draw(rows: list[dict[str, Any]]) -> None:
    """Time by channels, a panel for each map."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (size, padding) in zip(figure.subplots(2, 3).ravel(), MAPS, strict=True):
        here = [row for row in rows if (row["map"], row["padding"]) == (size, padding)]
        for index, name in enumerate(NAMES):
            points = [(r["channels"], r["ms"][name]) for r in here if name in r["ms"]]
            if points:
                xs, ys = zip(*points, strict=True)
                axis.loglog(xs, ys, marker="o", color=f"C{index}", label=name)
        ticks = [row["channels"] for row in here]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
        kind = "" if padding else ", no padding"
        axis.set(title=f"{size}x{size} map{kind}, batch {BATCH}", xlabel="channels")
    figure.supylabel("forward and backward, ms")
    figure.axes[0].legend()
    figure.savefig(RESULTS / "lowerings.png", dpi=150)


def main() -> None:
    """Prints and saves the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    train.prepare_jax()
    rows = []
    for (size, padding), channels in itertools.product(MAPS, CHANNELS):
        if size**2 * channels <= LARGEST_LAYER:
            times = measure(size, padding, channels, rounds)
            rows.append({"map": size, "padding": padding, "channels": channels, "ms": times})
            print(rows[-1], flush=True)
    result = {"batch": BATCH, "rounds": rounds, "rows": rows}
    print(table(result))
    save("lowerings", result)
    draw(rows)


if __name__ == "__main__":
    main()
