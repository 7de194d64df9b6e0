"""Several codes that train in turns, each with a clock of its own."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Engine(NamedTuple):
    """One code that trains.

    Attributes:
        state: with which it starts.
        train: (state, first, stop) -> the state after the updates first, ..., stop - 1, all of one
            epoch; it may take the given state's place in memory.
        accuracy: of a state on all test images.
    """

    state: Any
    train: Callable[[Any, int, int], Any]
    accuracy: Callable[[Any], float]


def turns(each: int, epochs: int, every: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of turns of at most `every` updates that end with an epoch of `each`."""
    for epoch in range(epochs):
        ends = [*range(0, each, every), each]
        for first, stop in itertools.pairwise(ends):
            yield epoch * each + first, epoch * each + stop


def race(
    racing: Mapping[str, Engine], all_turns: Iterator[tuple[int, int]], goal: float, budget: float
) -> dict[str, dict[str, Any]]:
    """Trains all in turns until each has reached the goal or spent its seconds.

    Returns:
        By engine: the seconds of its compilation, and after each turn the updates so far, their
        seconds, and the accuracy on all test images.
    """
    rows: dict[str, dict[str, Any]] = {}
    states: dict[str, Any] = {}
    for name, engine in racing.items():
        # No update: what is left is compilation.
        compiled, states[name] = _clocked(engine.train, engine.state, 0, 0)
        rows[name] = {"compile_s": compiled, "updates": [], "seconds": [], "accuracy": []}
    left, spent = list(racing), dict.fromkeys(racing, 0.0)
    for first, stop in all_turns:
        for name in left:
            taken, states[name] = _clocked(racing[name].train, states[name], first, stop)
            spent[name] += taken
            point = stop, spent[name], racing[name].accuracy(states[name])
            for key, value in zip(("updates", "seconds", "accuracy"), point, strict=True):
                rows[name][key].append(value)
        told = ", ".join(f"{name} {100 * rows[name]['accuracy'][-1]:.1f} %" for name in left)
        print(f"after {stop} updates: {told}", flush=True)
        left = [n for n in left if rows[n]["accuracy"][-1] < goal and spent[n] < budget]
        if not left:
            break
    return rows


def _clocked(train: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    state = train(*given)
    return time.perf_counter() - began, state


def seconds_to(row: Mapping[str, Any], target: float) -> float | None:
    """Of training until an accuracy was first met, without compilation; None: it was not."""
    pairs = zip(row["seconds"], row["accuracy"], strict=True)
    return next((seconds for seconds, accuracy in pairs if accuracy >= target), None)
