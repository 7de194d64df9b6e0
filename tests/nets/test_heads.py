"""LE, KD, KDW, a head of one's own and the κ schedules against formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import EP, Tolerance
from jaxep.nets import (
    Dense,
    Edge,
    Head,
    Identity,
    Input,
    Layer,
    Network,
    Targets,
    distillation,
    kappa_schedule,
    local_errors,
    mlp,
    vgg,
    weighted_distillation,
)
from tests.draws import params_of, states_of

LAYER = (2, 2, 3)
NETWORK = Network((Input("x", LAYER),), (Layer("a", LAYER),), (Edge("x", "a", Identity(LAYER)),))
STATES = {"a": jnp.linspace(0, 1, 2 * 2 * 2 * 3).reshape(2, 2, 2, 3)}
LABELS = jnp.asarray([1, 0])


def softmax(x):
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def logits_of(params):
    return np.asarray(STATES["a"]).reshape(2, 12) @ np.asarray(params["kernel"])


def test_local_error_is_tau_squared_cross_entropy_of_the_readout():
    (head,) = local_errors(NETWORK, ["a"], 4, tau=4.0)
    params = head.init(jax.random.key(0))
    assert head.name == "le_a" and set(params) == {"kernel"}
    expected = -16 * np.log(softmax(logits_of(params) / 4)[[0, 1], [1, 0]])
    np.testing.assert_allclose(head.value(params, STATES, Targets(LABELS)), expected, rtol=1e-5)


def test_softened_labels_are_the_literal_equation_7():
    (head,) = local_errors(NETWORK, ["a"], 10, tau=4.0, soften=True)
    params = head.init(jax.random.key(0))
    target = softmax(np.eye(10)[[1, 0]] / 4)
    assert target[0, 1] == pytest.approx(0.125, abs=1e-3)
    expected = -16 * np.sum(target * np.log(softmax(logits_of(params) / 4)), -1)
    np.testing.assert_allclose(head.value(params, STATES, Targets(LABELS)), expected, rtol=1e-5)


def test_a_fixed_readout_gets_no_gradient_and_still_nudges():
    (head,) = local_errors(NETWORK, ["a"], 4, learned=False)
    params = head.init(jax.random.key(0))

    def total(params, states):
        return head.value(params, states, Targets(LABELS)).sum()

    of_params, of_states = jax.grad(total, (0, 1))(params, STATES)
    assert not np.any(of_params["kernel"])
    assert np.any(of_states["a"])


@pytest.mark.parametrize("axis", ["all", "channel"])
def test_distillation_compares_softened_states_with_the_teacher(axis):
    teacher = np.asarray(jax.random.normal(jax.random.key(0), (2, 2, 2, 3)))
    student = np.asarray(STATES["a"])
    if axis == "all":
        teacher_rows, student_rows = teacher.reshape(2, 1, 12), student.reshape(2, 1, 12)
    else:
        teacher_rows, student_rows = teacher.reshape(2, 4, 3), student.reshape(2, 4, 3)
    terms = -softmax(teacher_rows / 4) * np.log(softmax(student_rows / 4))
    expected = 16 * terms.sum(-1).mean(-1)
    targets = Targets(LABELS, 1.0, {"kd_a": jnp.asarray(teacher)})
    (head,) = distillation(["a"], 4.0, axis)
    np.testing.assert_allclose(head.value({}, STATES, targets), expected, rtol=1e-5)


def test_weighted_distillation_with_an_identity_map_is_distillation():
    teacher = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    targets = Targets(LABELS, 1.0, {"kd_a": teacher, "kdw_a": teacher})
    (mapped,), (plain,) = weighted_distillation(NETWORK, ["a"], [LAYER]), distillation(["a"])
    got = mapped.value({"kernel": jnp.eye(12)}, STATES, targets)
    np.testing.assert_allclose(got, plain.value({}, STATES, targets), rtol=1e-6)


@pytest.mark.parametrize("axis", ["all", "channel"])
def test_weighted_distillation_maps_to_the_shape_of_the_teacher(axis):
    (head,) = weighted_distillation(NETWORK, ["a"], [(1, 1, 5)], axis=axis)
    params = head.init(jax.random.key(0))
    assert params["kernel"].shape == (12, 5) and set(params) == {"kernel"}
    teacher = jax.random.normal(jax.random.key(1), (2, 1, 1, 5))
    found = head.value(params, STATES, Targets(LABELS, 1.0, {"kdw_a": teacher}))
    rows = softmax(np.asarray(teacher).reshape(2, 5) / 4)
    np.testing.assert_allclose(
        found, -16 * (rows * np.log(softmax(logits_of(params) / 4))).sum(-1), rtol=1e-5
    )


@pytest.mark.parametrize("output", ["readout", "neurons"])
def test_total_loss_is_output_loss_plus_kappa_times_the_signals(output):
    plain = vgg("3 M", (5,), (4, 4, 1), 4, output=output)
    signals = local_errors(plain.network, ["conv1", "fc1"], 4)
    model = plain.with_heads(*signals)
    params, states = params_of(model, dtype="float32"), states_of(model, 2, dtype="float32")
    kappa = 0.3
    with_signal = model.energy().loss(params, states, Targets(LABELS, kappa))
    without = plain.energy().loss(params, states, Targets(LABELS))
    both = [h.value(params["heads"][h.name], states, Targets(LABELS)) for h in signals]
    np.testing.assert_allclose(with_signal, without + kappa * sum(both), rtol=1e-6)
    if output == "readout":
        own = params["heads"]["readout"]
        logits = np.asarray(states["fc1"] @ own["kernel"] + own["bias"])
        np.testing.assert_allclose(without, -np.log(softmax(logits)[[0, 1], [1, 0]]), rtol=1e-5)
    else:
        onehot = np.eye(4)[[1, 0]]
        np.testing.assert_allclose(
            without, 0.5 * ((states["output"] - onehot) ** 2).sum(-1), rtol=1e-5
        )


def test_a_head_of_ones_own_with_a_lambda_for_its_loss():
    """Sparse activity, weighted by half of κ, beside one that pulls at a target of features."""
    plain = mlp((6, 5), (4,), 3)
    sparse = Head("sparse", "fc1", lambda s, _: jnp.abs(s).sum(-1), weight=lambda t: t.kappa / 2)
    near = Head(
        "near",
        "fc2",
        lambda s, mean: (s - mean[:, None]).reshape(len(s), -1).mean(-1) ** 2,
        target=lambda targets: targets.features["mean"],
        map=Dense((5,), 2),
    )
    model = plain.with_heads(sparse, near)
    params, states = params_of(model, dtype="float32"), states_of(model, 2, dtype="float32")
    mean = jnp.asarray([0.3, 0.6])
    targets = Targets(LABELS, 0.8, {"mean": mean})
    own = params["heads"]["near"]
    mapped = states["fc2"] @ own["kernel"] + own["bias"]
    extra = 0.4 * jnp.abs(states["fc1"]).sum(-1) + 0.8 * (mapped - mean[:, None]).mean(-1) ** 2
    expected = plain.loss(params, states, targets) + extra
    np.testing.assert_allclose(model.loss(params, states, targets), expected, rtol=1e-5)
    assert set(params["heads"]) == {"near"}
    assert model.weight_labels(params)["heads"] == {"near": {"kernel": "fc2", "bias": "fc2"}}
    estimate = jax.jit(EP(0.1, Tolerance(20), 10).value_and_grad(model.energy()))
    loss, grads, _ = estimate(params, (jnp.ones((2, 4)), targets), jax.random.key(0))
    assert np.isfinite(loss) and np.any(grads["heads"]["near"]["kernel"])


def test_gains_scale_the_maps_of_signals():
    heads = (
        *local_errors(NETWORK, ["a"], 40, gain=0.5),
        *weighted_distillation(NETWORK, ["a"], [(5, 5, 4)], gain=0.5),
    )
    for head in heads:
        kernel = head.init(jax.random.key(0))["kernel"]
        assert 0.95 < float(jnp.abs(kernel).max()) * 12**0.5 / 0.5 <= 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: local_errors(NETWORK, ["b"], 4), "there is no layer b; there are a"),
        (lambda: weighted_distillation(NETWORK, ["b"], [LAYER]), "there is no layer b"),
        (
            lambda: weighted_distillation(NETWORK, ["a"], []),
            "teacher_shapes: has 0, must have one for each of the 1 layers",
        ),
        (lambda: distillation(["a"], axis="channels"), "axis = 'channels': must be one of all"),
        (lambda: local_errors(NETWORK, ["a"], 4, tau=0.0), "tau = 0.0"),
        (lambda: distillation(["a"], tau=-1.0), "tau = -1.0"),
        (
            lambda: distillation(["a"])[0].value({}, STATES, Targets(LABELS, 1.0)),
            "targets: no feature for the head kd_a",
        ),
        (
            lambda: distillation(["a"])[0].value(
                {}, STATES, Targets(LABELS, 1.0, {"kd_a": jnp.ones((2, 7))})
            ),
            r"head kd_a is \[2, 7\], must be \[2, 2, 2, 3\]",
        ),
        (
            lambda: weighted_distillation(NETWORK, ["a"], [(1, 1, 5)])[0].value(
                {"kernel": jnp.ones((12, 5))},
                STATES,
                Targets(LABELS, 1.0, {"kdw_a": jnp.ones((2, 5))}),
            ),
            r"head kdw_a is \[2, 5\], must be \[2, 1, 1, 5\]",
        ),
        (lambda: kappa_schedule("Cosine", 0.8, 10), "'Cosine': must be one of constant, linear"),
    ],
)
def test_what_makes_no_signal_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


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
