"""Every config is valid and builds; settings have defaults and check themselves."""

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.run.errors import UserError
from jaxep.training.data import Dataset, Split, moments
from jaxep.training.loop import TASKS
from jaxep.training.networks import signal_layers
from jaxep.training.settings import Settings, from_config, load_config_file, to_dict
from jaxep.training.sources import SPECS
from jaxep.training.steps import init_state, train_step
from jaxep.training.tasks import ep_task
from tests.training.test_networks import network

OTHERS = {"__init__", "base"}
CONFIGS = sorted(path.stem for path in Path("configs").glob("*.py") if path.stem not in OTHERS)
BATCH = 2


def config(name="digits_le", **changes):
    return {**load_config_file(f"configs/{name}.py").to_dict(), **changes}


def fake_data(settings):
    spec = SPECS[settings.dataset]
    images = jnp.zeros((BATCH, *spec.image_shape), jnp.uint8)
    split = Split(images, jnp.zeros((BATCH,), jnp.int32))
    return Dataset(split, split, spec.classes, *moments(settings.dataset, 1.0), spec.padding)


def fake_teacher(settings):
    """Features of the shapes that the student's own layers have."""
    if settings.signal not in ("kd", "kdw"):
        return (lambda images: ()), ()
    model = network(settings)
    shapes = tuple(model.network.shapes[name] for name in signal_layers(settings, model))
    return (lambda images: tuple(jnp.ones((len(images), *s)) for s in shapes)), shapes


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_and_takes_one_step(name):
    settings = from_config(config(name))
    data = fake_data(settings)
    if settings.task in TASKS:
        task = TASKS[settings.task](settings, data, 10)
    else:
        task = ep_task(settings, data, 10, *fake_teacher(settings))
    key = jax.random.key(0)

    def step(key):
        state = init_state(task, key)
        return train_step(task, state, data.train.images, data.train.labels, key)

    # eval_shape traces the whole step, which is what can be wrong; small nets also compute it.
    run = jax.jit(step) if settings.dataset == "digits" else lambda k: jax.eval_shape(step, k)
    state, metrics = run(key)
    assert {"loss", "accuracy"} <= set(metrics)
    assert settings.name == name
    if settings.task == "ep":
        assert set(task.rows) >= set(network(settings).weight_names)
    if settings.dataset == "digits":
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("vgg")])
def test_configs_have_the_layers_of_their_name(name):
    settings = from_config(config(name))
    digits = "".join(c for c in name.split("_")[0] if c.isdigit())
    assert len(network(settings).weight_names) == int(digits)


# Tables 5 and 6: β, T_free, T_nudge, learning rates, κ, its schedule, batch, Υ, states, gain, data
PAPER = {
    "vgg7_le": (0.25, 250, 50, "7x.03", 0.65, "cosine", 128, (2, 4), "zeros", 1, "cifar10"),
    "vgg7_kd": (0.15, 250, 60, "7x.03", 0.65, "cosine", 64, (2, 4), "uniform", 1, "cifar10"),
    "vgg7_kdw": (0.5, 100, 50, "7x.03", 0.15, "cosine", 128, (2, 4), "uniform", 1, "cifar10"),
    "vgg11_le": (
        *(1, 400, 40, "1x.03 7x.05 3x.025", 0.85, "cosine", 128),
        *((1, 3, 5, 7), "zeros", 0.5, "cifar100"),
    ),
    "vgg13_le": (
        *(1, 140, 50, "2x.03 8x.05 3x.025", 0.85, "cosine", 128),
        *((1, 3, 5, 7), "zeros", 0.5, "cifar100"),
    ),
    "vgg10_kd": (
        *(0.5, 130, 50, "2x.03 6x.05 2x.025", 0.85, "cosine", 128),
        *((0, 1, 3, 5, 7), "uniform", 1, "cifar100"),
    ),
    "vgg12_kd": (
        *(1, 100, 15, "2x.03 8x.05 2x.025", 0.65, "linear", 256),
        *((1, 3, 5, 7, 9), "uniform", 0.5, "cifar100"),
    ),
}


@pytest.mark.parametrize("name", PAPER)
def test_configs_have_the_papers_hyperparameters(name):
    s = from_config(config(name))
    groups = [f"{s.learning_rates.count(r)}x{r:g}" for r in dict.fromkeys(s.learning_rates)]
    rates = " ".join(groups).replace("x0.", "x.")
    phases = (s.beta, s.t_free, s.t_nudge, rates, s.kappa, s.kappa_schedule, s.batch_size)
    assert (*phases, s.signal_layers, s.init_states, s.gain, s.dataset) == PAPER[name]
    assert (s.epochs, s.weight_decay, s.momentum, s.tau) == (250, 3e-4, 0.9, 4.0)
    # Sooner at a settled gradient than the paper's fixed synchronous steps: benchmarks solvers.
    assert (s.order, s.solver, s.ep_variant) == ("alternating", "tolerance", "centered")
    assert s.conv_activation == ("relu" if name == "vgg12_kd" else "hard_sigmoid")
    assert s.signal == name.split("_")[1]


@pytest.mark.parametrize(
    ("name", "convs"),
    [
        ("teacher_vgg19_cifar10", [2, 2, 4, 4, 4]),
        ("teacher_vgg16_cifar100", [2, 2, 3, 3, 3]),
        ("teacher_vgg15_cifar100", [2, 2, 2, 3, 3]),
    ],
)
def test_teachers_have_the_blocks_of_spec_6(name, convs):
    settings = from_config(config(name))
    blocks = [block.split() for block in settings.conv.split("M") if block.strip()]
    channels = zip(["64", "128", "256", "512", "512"], convs, strict=True)
    assert blocks == [[features] * count for features, count in channels]
    assert (settings.task, settings.hidden) == ("teacher", (512,))


@pytest.mark.parametrize(
    ("le", "std"),
    [
        ("digits_le", "digits_std"),
        ("digits_deep_le", "digits_deep_std"),
        ("vgg7_le", "vgg7_std"),
        ("vgg11_le", "vgg11_std"),
        ("vgg13_le", "vgg13_std"),
    ],
)
def test_baselines_differ_in_nothing_but_the_signal(le, std):
    a, b = (to_dict(from_config(config(name))) for name in (le, std))
    assert {k for k in a if a[k] != b[k]} == {"name", "signal", "signal_layers", "kappa"}


def test_a_missing_key_is_named():
    values = config()
    del values["tau"]
    with pytest.raises(UserError, match="config.tau is missing"):
        from_config(values)


def test_settings_have_the_defaults_of_base_and_check_themselves():
    settings = Settings(dataset="digits", beta=0.5)
    base = load_config_file("configs/base.py").to_dict()
    assert to_dict(settings) == to_dict(from_config({**base, "dataset": "digits", "beta": 0.5}))
    with pytest.raises(UserError, match="config.beta = -1: must be a number over 0"):
        Settings(beta=-1)
    with pytest.raises(TypeError, match="betta"):
        Settings(**{"betta": 1.0})


def test_numbers_of_numpy_and_lists_become_plain_values():
    rates = np.geomspace(0.1, 0.01, 5)
    settings = Settings(
        dataset="digits",
        hidden=[np.int64(7)],
        beta=np.float32(0.5),
        t_free=np.int32(3),
        augment=np.bool_(False),
        learning_rates=rates,
    )
    assert type(settings.beta) is float and type(settings.t_free) is int
    assert settings.hidden == (7,) and settings.augment is False
    assert settings.learning_rates == tuple(rates.tolist())
    assert from_config(json.loads(json.dumps(to_dict(settings)))) == settings


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=9),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@hypothesis.given(key=st.sampled_from(sorted(Settings.__dataclass_fields__)), value=VALUES)
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_value_of_any_key_is_accepted_or_refused_in_one_line(key, value):
    values = {**config(), key: value}
    try:
        assert isinstance(from_config(values), Settings)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
