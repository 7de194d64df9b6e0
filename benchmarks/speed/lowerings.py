"""Which way to compute a convolution is fastest?

One product forward and one backward in a loop, as a relaxation does, by each lowering, for the maps
and channels of VGG nets; the last convolution of the paper's VGG-5 has no padding. Each loop
prepares its kernels once, and takes at least 20 steps. `Conv` chooses by this table.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.shared import show
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.workload import LARGEST_DENSE_MAP, medians, seconds
from jaxep.nets.couplings import Conv, LoweringName
from jaxep.training.parallel import samples_over_devices

ARGUMENTS = {"--rounds": 5}
# (height and width below, padding)
MAPS = ((2, 1), (4, 0), (4, 1), (8, 1), (16, 1), (32, 1))
CHANNELS = (16, 32, 64, 128, 256, 512)
NAMES: tuple[LoweringName, ...] = ("convolution", "dense", "winograd")
BATCH = 32
LARGEST_MAP = {"convolution": 32, "dense": LARGEST_DENSE_MAP, "winograd": 32}
# Larger ones do not occur: a net's channels grow as its maps shrink.
LARGEST_LAYER = 32 * 32 * 64


def pair(conv: Conv, steps: int, params: Any, lower: jax.Array) -> jax.Array:
    """`steps` times: up through the coupling without its pool, and back down."""
    operators = conv.prepare(params)

    def body(_, state):
        upper, pull = jax.vjp(functools.partial(conv.apply, operators), state)
        return jnp.clip(pull(upper)[0], 0, 1)

    return jax.lax.fori_loop(0, steps, body, lower)


def time_pairs(size: int, padding: int, channels: int, rounds: int) -> dict[str, float]:
    """Milliseconds of one pair by lowering: medians over interleaved rounds."""
    lower = jax.random.uniform(jax.random.key(0), (BATCH, size, size, channels))
    steps = max(20, 10**7 // (size**2 * channels**2))
    clocks = {}
    for name in (name for name in NAMES if size <= LARGEST_MAP[name]):
        conv = Conv((size, size, channels), channels, padding=padding, lowering=name)
        params = conv.init(jax.random.key(1))
        run = jax.jit(functools.partial(samples_over_devices, functools.partial(pair, conv, steps)))
        clocks[name] = functools.partial(seconds, run, params, lower)
        clocks[name]()
    return {name: 1e3 * spent / steps for name, spent in medians(clocks, rounds).items()}


def measure(options: Options) -> Result:
    """All maps and channels."""
    result: Result = {"batch": BATCH, "rounds": options.own.rounds, "rows": []}
    for (size, padding), channels in itertools.product(MAPS, CHANNELS):
        if size**2 * channels <= LARGEST_LAYER:
            times = time_pairs(size, padding, channels, options.own.rounds)
            row = {"map": size, "padding": padding, "channels": channels, "ms": times}
            result["rows"].append(row)
            print(row, flush=True)
    return result


def table(result: Result) -> str:
    """Milliseconds of each lowering by map and channels."""
    rows = [
        [row["map"], row["padding"], row["channels"]]
        + [f"{row['ms'][name]:.3f}" if name in row["ms"] else "" for name in NAMES]
        for row in result["rows"]
    ]
    return show.markdown(["map", "padding", "channels", *(f"{name}, ms" for name in NAMES)], rows)


def claims(result: Result) -> Claims:
    """How much faster than the backend's own each is."""
    for name in NAMES[1:]:
        gains = [r["ms"]["convolution"] / r["ms"][name] for r in result["rows"] if name in r["ms"]]
        here = f"on {sum(gain > 1 for gain in gains)} of {len(gains)} maps, "
        here += f"{show.between(gains, '.2g')} times as fast"
        yield Claim(f"{name} is faster than the backend's convolution", "chosen where it is", here)


def draw(result: Result):
    """Time by channels, a panel for each map."""
    panels = []
    for size, padding in MAPS:
        here = [row for row in result["rows"] if (row["map"], row["padding"]) == (size, padding)]
        channels = [row["channels"] for row in here]
        parts = [
            show.line(name, [row["ms"].get(name) for row in here], channels, "o-", color=f"C{i}")
            for i, name in enumerate(NAMES)
            if size <= LARGEST_MAP[name]
        ]
        kind = "" if padding else ", no padding"
        title = f"{size}x{size} map{kind}, batch {result['batch']}"
        own: dict[str, Any] = {"ticks": channels, "legend": "best"}
        panels.append(show.Panel(title, parts, "both ways, ms", "channels", "xy", **own))
    return show.figure([panels[:3], panels[3:]], size=(4.4, 2.6))
