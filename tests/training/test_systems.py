"""Every system of the literature learns by the ordinary trainer, and a run of it can be loaded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.training import Settings, fit, from_arrays, load_run
from jaxep.training.loop import make_task
from jaxep.training.steps import evaluate, init_state, train_chunk
from tests.draws import bright_rows

SHAPE, CLASSES = (8, 8), 3


def data_of():
    train, test = np.arange(60) % CLASSES, np.arange(30) % CLASSES
    images = bright_rows(train, SHAPE, 0), bright_rows(test, SHAPE, 1)
    return from_arrays(images[0], train, images[1], test)


DATA = data_of()
PLAIN = Settings(
    name="own",
    dataset="",
    conv="6 A",
    hidden=(12,),
    signal="none",
    solver="fixed",
    relaxation=1.0,
    t_free=12,
    t_nudge=6,
    beta=0.5,
    optimizer="adam",
    learning_rates=0.02,
    lr_schedule="constant",
    weight_decay=0.0,
    batch_size=12,
    eval_batch_size=30,
    epochs=8,
)
FORWARD = {
    "system": "predictive_coding",
    "conv_activation": "relu",
    "dense_activation": "relu",
    "output_activation": "linear",
    "output_loss": "squared_error",
    "t_free": 0,
    "beta": 0.02,
}
SMOOTH = {"conv_activation": "sigmoid", "dense_activation": "sigmoid", "beta": 1.0}
CASES = {
    "hopfield": {},
    "predictive_coding": FORWARD,
    "predictive_coding, one phase": {**FORWARD, "ep_variant": "random_sign"},
    "predictive_coding, readout": {**FORWARD, "output_loss": "cross_entropy", "beta": 0.1},
    "predictive_coding, max pool": {**FORWARD, "conv": "6 M 6"},
    "backprop": {**FORWARD, "estimator": "backprop"},
    "four points": {"ep_variant": "four_point"},
    "holomorphic": {"ep_variant": "holomorphic", "points": 4, **SMOOTH},
    "vector field": {"system": "vector_field", "alignment": 0.1},
    "vector field, naive": {"system": "vector_field", "field_correction": False},
    "continual": {"estimator": "continual", "ep_variant": "one_sided", "continual_rate": 0.01},
    "event-driven": {"solver": "event_driven", "event_step": 1 / 64},
    "feedback": {"system": "feedback", "feedback": 0.5},
    "skips": {"wiring": "all", "conv": "", "hidden": (12, 12, 12), "skips": 0.3},
    "binary": {"optimizer": "bop", "learning_rates": 0.02},
    "sequence": {"system": "sequence", "conv": "", "places": 1.0},
    "energy transformer": {
        "system": "energy_transformer",
        **{"conv": "", "hidden": (), "dim": 8, "heads": 2, "memories": 12, "relaxation": 0.5},
    },
    "blocks": {"task": "blocks", "blocks": 2, "conv": "6 A 6"},
}


@pytest.mark.parametrize("name", CASES)
def test_it_learns(name):
    settings = dataclasses.replace(PLAIN, **CASES[name])
    task = make_task(settings, DATA)
    state, size = init_state(task, jax.random.key(0)), settings.batch_size
    each = len(DATA.train.labels) // size
    for epoch in range(settings.epochs):
        key, stop = jax.random.key(epoch), (epoch + 1) * each
        state = train_chunk(task, size, state, DATA.train, stop, key, 0.0)
    assert int(state.step) == settings.epochs * each and not state.totals["skipped"]
    loss, accuracy = evaluate(task, 30, state.params, state.extra, DATA.test, jax.random.key(0))
    assert jnp.isfinite(loss) and accuracy >= 0.9


def test_a_predictive_coding_run_is_settled_from_its_start_and_can_be_loaded(tmp_path):
    settings = dataclasses.replace(PLAIN, **FORWARD, epochs=2)
    summary = fit(settings, tmp_path / "run", data=DATA)
    run = load_run(tmp_path / "run", DATA, best=False)
    assert run.evaluate()[1] == pytest.approx(summary["final_test_accuracy"])
    images = np.asarray(DATA.test.images)
    states = run.states(images)
    x = (images.astype(np.float32) / 255 - run.facts["mean"]) / run.facts["std"]
    expected = run.energy.init_states(None, run.params, jnp.asarray(x, jnp.float32))
    for layer, value in expected.items():
        np.testing.assert_allclose(states[layer], value, rtol=1e-4, atol=1e-5)
