"""Codes that train in turns: who stops when, and what their clocks say."""

import itertools

import numpy as np
import pytest

from benchmarks.shared import race
from benchmarks.speed import time_to_accuracy


def engine(seconds, rate, clock):
    """One whose accuracy is `rate` times its updates, and whose update takes `seconds`."""

    def train(done, first, stop):
        assert done == first
        clock[0] += seconds * (stop - first)
        return stop

    return race.Engine(0, train, lambda done: rate * done)


def test_turns_end_with_each_epoch():
    found = list(race.turns(5, 2, 3))
    assert found == [(0, 3), (3, 5), (5, 8), (8, 10)]


def test_each_trains_until_the_goal_or_its_budget(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(race.time, "perf_counter", lambda: clock[0])
    racing = {"soon": engine(1, 0.2, clock), "dear": engine(10, 0.01, clock)}
    rows = race.race(racing, race.turns(4, 5, 2), 0.75, 45)
    assert rows["soon"]["updates"] == [2, 4]
    assert rows["soon"]["seconds"] == [2, 4]
    assert rows["dear"]["updates"] == [2, 4, 6]
    assert rows["dear"]["seconds"] == [20, 40, 60]
    assert race.seconds_to(rows["soon"], 0.3) == 2
    assert race.seconds_to(rows["soon"], 0.8) == 4
    assert race.seconds_to(rows["dear"], 0.3) is None


def row(seconds, accuracy, compile_s=1.0):
    updates = list(range(1, len(seconds) + 1))
    return {
        "compile_s": compile_s,
        "updates": updates,
        "seconds": seconds,
        "accuracy": accuracy,
    }


@pytest.mark.parametrize(
    ("seconds", "reached", "words", "holds"),
    [
        (40.0, 0.95, "20.0 times", True),
        (30.0, 0.95, "15.0 times", False),
        (60.0, 0.5, "over 30.0 times", True),
        (30.0, 0.5, "over 15.0 times", None),
    ],
)
def test_the_claim_follows_from_the_clocks(seconds, reached, words, holds):
    found = {
        time_to_accuracy.DEFAULT: row([2.0], [0.95]),
        time_to_accuracy.PEER: row([seconds], [reached]),
    }
    result = {"targets": [0.9], "engines": found}
    (claim,) = time_to_accuracy.claims(result)
    assert words in claim.here and claim.holds is holds
    assert time_to_accuracy.PEER in time_to_accuracy.table(result)


def test_all_of_jaxeps_engines_learn_from_the_same_weights_and_order():
    runs = time_to_accuracy.methods({"train_size": 60, "test_size": 30, "batch_size": 20})
    assert len({(run.batch_size, run.seed, run.conv, run.hidden) for run in runs.values()}) == 1
    settings = runs["jaxep, predictive coding"]
    one = time_to_accuracy.jaxep_engine(settings, time_to_accuracy.load_data(settings))
    state = one.state
    for first, stop in itertools.islice(race.turns(3, 2, 2), 3):
        state = one.train(state, first, stop)
    assert int(state.step) == 5
    assert 0 <= one.accuracy(state) <= 1


def test_pytorch_makes_the_updates_that_jaxep_makes():
    """Biases, which have one layout in both, after two updates by the paper's kind of steps."""
    pytest.importorskip("torch")
    small = {"train_size": 60, "test_size": 30, "batch_size": 20, "conv": "4 M 4 M"}
    every = time_to_accuracy.engines("", **small, t_free=6, t_nudge=3)
    ours, theirs = every["jaxep, paper's steps"], every[time_to_accuracy.TORCH]
    before = [weight.detach().numpy().copy() for weight in theirs.state.weights[1::2]]
    params = ours.train(ours.state, 0, 2).params
    after = theirs.train(theirs.state, 0, 2).weights[1::2]
    own = [*params["edges"].values(), params["heads"]["readout"]]
    for old, new, layer in zip(before, after, own, strict=True):
        moved = new.detach().numpy() - old
        assert abs(moved).max() > 1e-5
        np.testing.assert_allclose(layer["bias"] - old, moved, rtol=1e-3, atol=1e-7)
