"""What is said of a run that is not well, and that a healthy one is not talked about."""

import math

import jax.numpy as jnp
import pytest

from jaxep.run.health import diagnosis, is_finite, warnings

FINITE = {"loss": 1.0, "free_residual": 1e-3, "nudge_residual": math.inf}


@pytest.mark.parametrize(
    ("tree", "changes", "expected"),
    [
        ({"w": [0.0, 1e38]}, {}, True),
        ({"w": [0.0, math.inf]}, {}, False),
        ({"w": [math.nan, 0.0]}, {}, False),
        ({}, {}, True),
        ({"w": [0.0]}, {"loss": math.inf}, False),
        ({"w": [0.0]}, {"free_residual": math.nan}, False),
        ({"w": [0.0]}, {"free_residual": math.inf}, True),
    ],
)
def test_is_finite(tree, changes, expected):
    tree = {name: jnp.asarray(leaf) for name, leaf in tree.items()}
    metrics = {name: jnp.asarray(value) for name, value in {**FINITE, **changes}.items()}
    assert bool(is_finite(tree, metrics)) is expected


NAN = jnp.array([1.0, jnp.nan])
GRADS = {
    "edges": {
        "conv1": {"kernel": jnp.ones(3), "bias": jnp.ones(2)},
        "conv2": {"kernel": jnp.ones(2)},
    },
    "heads": {"le_conv2": {"kernel": jnp.ones(2)}},
    "layers": {"res1_a": {"bias": jnp.ones(2)}},
}
BAD = {**GRADS, "edges": {**GRADS["edges"], "conv2": {"kernel": NAN}}}


@pytest.mark.parametrize(
    ("grads", "changes", "words"),
    [
        (BAD, {}, ["the gradients of conv2:", "learning_rates"]),
        (BAD, {"free_residual": math.nan}, ["conv2", "free phase", "gain"]),
        (BAD, {"nudge_residual": math.nan}, ["conv2", "nudged phase", "beta"]),
        (GRADS, {"loss": math.inf}, ["the loss:", "learning_rates"]),
        (GRADS, {}, ["the new parameters:", "learning_rates"]),
    ],
)
def test_a_diagnosis_names_layer_and_cause(grads, changes, words):
    text = diagnosis(grads, {**FINITE, **changes})
    assert all(word in text for word in words), text
    assert "conv1" not in text


@pytest.mark.parametrize(
    ("grads", "named"),
    [
        ({"edges": {"a.1": {"kernel": NAN, "bias": NAN}, "b": {"kernel": NAN}}}, "of a.1, b:"),
        ({**GRADS, "heads": {"le_conv2": {"kernel": NAN}}}, "of le_conv2:"),
        ({**GRADS, "layers": {"res1_a": {"bias": NAN}}}, "of res1_a:"),
        ({"Conv_0": {"kernel": NAN}, "Dense_0": {"bias": jnp.ones(2)}}, "of Conv_0:"),
        ({"edges": NAN}, "of edges:"),
    ],
)
def test_a_diagnosis_names_the_parts_of_any_tree(grads, named):
    assert f"the gradients {named}" in diagnosis(grads, FINITE)


def row(**changes):
    return {"epoch": 3, "free_residual": 0.018, "skipped": 0, **changes}


def layer(zeros, ones, name="conv2"):
    return {name: {"zeros": zeros, "ones": ones}}


def test_a_healthy_run_is_not_talked_about():
    """The extremes of digits_le and digits_deep_le, a readout, a teacher's rows."""
    rows = (
        layer(0.95, 0.0, "conv1") | layer(0.6, 0.33) | {"readout": {"gradient": 0.1}, "Dense_0": {}}
    )
    assert warnings(row(), rows, 55) == {}
    assert warnings({"epoch": 1, "skipped": 0}, {}, 55) == {}


@pytest.mark.parametrize(
    ("changes", "rows", "about", "words"),
    [
        ({}, layer(1.0, 0.0), ("dead", "conv2"), ["update 165", "conv2 are 0", "gain"]),
        ({}, layer(0.0, 0.99), ("saturated", "conv2"), ["update 165", "conv2 are 1", "beta"]),
        ({"free_residual": 0.07}, {}, ("unsettled", ""), ["update 165", "7%", "t_free"]),
        ({"skipped": 2}, {}, ("skipped", "3"), ["2 of 55 updates", "learning_rates"]),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes, rows, about, words):
    found = warnings(row(**changes), layer(0.5, 0.1, "conv1") | rows, 55)
    assert set(found) == {about}
    assert "\n" not in found[about] and all(word in found[about] for word in words), found
