"""LE, KD, KDW and the κ schedules against formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.core.sweep import hard_sigmoid
from jaxep.nets.graph import vgg
from jaxep.nets.heads import (
    Distillation,
    LocalError,
    NoSignal,
    Targets,
    WeightedDistillation,
    energy,
    init_params,
    kappa_schedule,
)

STATES = (jnp.linspace(0, 1, 2 * 2 * 2 * 3).reshape(2, 2, 2, 3),)
LABELS = jnp.asarray([1, 0])


def softmax(x):
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_local_error_is_tau_squared_cross_entropy_of_the_readout():
    signal = LocalError((0,), ((2, 2, 3),), num_classes=4, tau=4.0)
    params = signal.init_params(jax.random.key(0), 1.0, jnp.float32)
    logits = np.asarray(STATES[0]).reshape(2, 12) @ np.asarray(params["0"]["kernel"])
    expected = -16 * np.log(softmax(logits / 4)[[0, 1], [1, 0]])
    np.testing.assert_allclose(signal.l_aug(params, STATES, Targets(LABELS)), expected, rtol=1e-5)


def test_softened_labels_are_the_literal_equation_7():
    signal = LocalError((0,), ((2, 2, 3),), num_classes=10, tau=4.0, soften_labels=True)
    params = signal.init_params(jax.random.key(0), 1.0, jnp.float32)
    logits = np.asarray(STATES[0]).reshape(2, 12) @ np.asarray(params["0"]["kernel"])
    target = softmax(np.eye(10)[[1, 0]] / 4)
    assert target[0, 1] == pytest.approx(0.125, abs=1e-3)
    expected = -16 * np.sum(target * np.log(softmax(logits / 4)), -1)
    np.testing.assert_allclose(signal.l_aug(params, STATES, Targets(LABELS)), expected, rtol=1e-5)


def test_a_fixed_readout_gets_no_gradient_and_still_nudges():
    signal = LocalError((0,), ((2, 2, 3),), num_classes=4, learn_readout=False)
    params = signal.init_params(jax.random.key(0), 1.0, jnp.float32)

    def total(params, states):
        return signal.l_aug(params, states, Targets(LABELS)).sum()

    of_params, of_states = jax.grad(total, (0, 1))(params, STATES)
    assert not np.any(of_params["0"]["kernel"])
    assert np.any(of_states[0])


@pytest.mark.parametrize("axis", ["all", "channel"])
def test_distillation_compares_softened_states_with_the_teacher(axis):
    teacher = np.asarray(jax.random.normal(jax.random.key(0), (2, 2, 2, 3)))
    student = np.asarray(STATES[0])
    if axis == "all":
        teacher_rows, student_rows = teacher.reshape(2, 1, 12), student.reshape(2, 1, 12)
    else:
        teacher_rows, student_rows = teacher.reshape(2, 4, 3), student.reshape(2, 4, 3)
    terms = -softmax(teacher_rows / 4) * np.log(softmax(student_rows / 4))
    expected = 16 * terms.sum(-1).mean(-1)
    targets = Targets(LABELS, 1.0, (jnp.asarray(teacher),))
    got = Distillation((0,), 4.0, axis).l_aug({}, STATES, targets)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_weighted_distillation_with_an_identity_map_is_distillation():
    teacher = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    targets = Targets(LABELS, 1.0, (teacher,))
    mapped = WeightedDistillation((0,), ((2, 2, 3),), ((2, 2, 3),))
    got = mapped.l_aug({"0": {"kernel": jnp.eye(12)}}, STATES, targets)
    np.testing.assert_allclose(got, Distillation((0,)).l_aug({}, STATES, targets), rtol=1e-6)


def test_weighted_distillation_maps_to_the_shape_of_the_teacher():
    signal = WeightedDistillation((0,), ((2, 2, 3),), ((1, 1, 5),))
    params = signal.init_params(jax.random.key(0), 1.0, jnp.float32)
    assert params["0"]["kernel"].shape == (12, 5)
    targets = Targets(LABELS, 1.0, (jnp.ones((2, 1, 1, 5)),))
    assert signal.l_aug(params, STATES, targets).shape == (2,)


@pytest.mark.parametrize("has_readout", [True, False])
def test_total_loss_is_output_loss_plus_kappa_times_the_signals(has_readout):
    net = vgg(
        "3 M",
        (5,),
        (4, 4, 1),
        4,
        conv_activation=hard_sigmoid,
        dense_activation=hard_sigmoid,
        has_readout=has_readout,
    )
    signal = LocalError((0,), net.state_shapes[:1], 4)
    params = init_params(net, signal, jax.random.key(0))
    states = net.init_states(jax.random.key(1), 2, "uniform")
    kappa = 0.3
    with_signal = energy(net, signal).loss(params, states, Targets(LABELS, kappa))
    without = energy(net, NoSignal()).loss({**params, "signals": {}}, states, Targets(LABELS))
    expected = without + kappa * signal.l_aug(params["signals"], states, Targets(LABELS))
    np.testing.assert_allclose(with_signal, expected, rtol=1e-6)
    if has_readout:
        logits = np.asarray(states[-1] @ params["readout"]["kernel"] + params["readout"]["bias"])
        np.testing.assert_allclose(without, -np.log(softmax(logits)[[0, 1], [1, 0]]), rtol=1e-5)
    else:
        onehot = np.eye(4)[[1, 0]]
        np.testing.assert_allclose(without, 0.5 * ((states[-1] - onehot) ** 2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("constant", lambda e: 0.8),
        ("linear", lambda e: 0.8 - 0.8 * e / 250),
        ("exponential", lambda e: 0.8 * np.exp(-0.02 * e)),
        ("cosine", lambda e: 0.1 + 0.5 * (0.8 - 0.1) * (1 + np.cos(np.pi * e / 250))),
    ],
)
def test_kappa_schedules_are_equation_16(kind, formula):
    schedule = kappa_schedule(kind, 0.8, 250, gamma=0.02, minimum=0.1)
    for epoch in (0, 1, 100, 249):
        assert float(schedule(epoch)) == pytest.approx(formula(epoch), rel=1e-5)
