"""The pure parts of the benchmarks that train."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.paper import (
    contraction,
    contraction_told,
    convergence,
    curves,
    depth,
    dynamics,
    feedback,
    gradients,
    schedules,
    stencils,
    tables,
    vanishing,
)
from benchmarks.shared import nets, results, runs, show
from jaxep.nets.specs import parse_conv


def all_specs(scale):
    yield from depth.specs(scale).values()
    yield from curves.specs(scale).values()
    yield from schedules.specs(scale).values()
    yield from vanishing.specs(scale).values()
    yield from dynamics.specs(scale).values()
    yield from feedback.specs(scale).values()
    yield from stencils.specs(scale).values()
    yield from tables.specs(scale, ("STD", "LE", "KD", "KDW")).values()
    yield from contraction.SCALES[scale].nets.values()
    yield gradients.SCALES[scale].run


@pytest.mark.parametrize("scale", results.SCALES)
def test_every_run_of_a_scale_has_settings_that_are_allowed(scale):
    for run in all_specs(scale):
        settings = runs.settings_of(run)
        assert (settings.signal == "none") == (settings.signal_layers == ())


@pytest.mark.parametrize("name", ["DIGITS_5", "DIGITS_11", "CIFAR_5", "CIFAR_7", "CIFAR_11"])
def test_the_rows_of_a_net_differ_in_the_signal_alone(name):
    allowed = {"signal", "signal_layers", "kappa", "teacher", "train_teacher"}
    net = getattr(nets, name)
    base = runs.to_dict(runs.settings_of(net["STD"]))
    for run in net.values():
        other = runs.to_dict(runs.settings_of(run))
        assert {key for key in base if base[key] != other[key]} <= allowed


@pytest.mark.parametrize(
    ("pair", "layers"),
    [
        ((nets.DIGITS_5, nets.DIGITS_11), (5, 11)),
        ((nets.CIFAR_5, nets.CIFAR_11), (5, 11)),
        ((nets.PAPER_5, nets.PAPER_11), (5, 11)),
        ((nets.CIFAR_7, nets.PAPER_7), (7, 7)),
    ],
)
def test_nets_have_the_weighted_layers_that_they_are_named_for(pair, layers):
    for net, expected in zip(pair, layers, strict=True):
        for run in net.values():
            settings = runs.settings_of(run)
            assert len(parse_conv(settings.conv)) + len(settings.hidden) + 1 == expected


def test_a_teachers_blocks_are_as_wide_as_the_student_layers_that_end_in_a_pool():
    for net in (nets.DIGITS_5, nets.DIGITS_11, nets.CIFAR_5, nets.CIFAR_7, nets.CIFAR_11):
        settings = runs.settings_of(net["KD"])
        theirs = runs.settings_of(runs.Run(Path(settings.teacher).stem))
        student = [spec.features for spec in parse_conv(settings.conv) if spec.pool]
        teacher = [spec.features for spec in parse_conv(theirs.conv) if spec.pool]
        assert student == teacher[: len(student)]


def test_a_work_directory_is_known_by_what_is_computed(tmp_path):
    run = nets.DIGITS_5["LE"]
    place = runs.place(run, tmp_path)
    assert runs.place(run.but(data_dir="/elsewhere"), tmp_path) == place
    assert runs.place(run.but(seed=0), tmp_path) == place  # the default, said aloud
    assert runs.place(run.but(seed=1), tmp_path) != place
    student = nets.DIGITS_5["KD"]
    other = student.but(teacher="configs/teacher_digits.py")
    assert runs.place(student, tmp_path) != runs.place(other, tmp_path)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    run = runs.shrink(nets.DIGITS_5["LE"])
    workdir = runs.place(run, tmp_path)
    workdir.mkdir(parents=True)
    summary = {"final_test_accuracy": 0.5, "best_test_accuracy": 0.6, "epochs": 1, "seconds": 2.0}
    summary |= {"parameters": 7, "device": {}, "git_commit": "c"}
    (workdir / "summary.json").write_text(json.dumps(summary))
    monkeypatch.setattr(runs, "read_metrics", lambda path: {n: [0.25] for n in runs.CURVES})
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("trained again"))
    row = runs.train_run(run, tmp_path)
    assert (row["test_accuracy"], row["train_accuracy"], row["seed"]) == (0.5, 0.25, 0)
    assert row["command"].startswith("python train.py --config configs/digits_deep_le.py")


def test_a_failed_run_ends_the_command_with_what_was_run(tmp_path):
    with pytest.raises(SystemExit, match="exit status 2.*train_size=1"):
        runs.train_run(nets.DIGITS_5["STD"].but(train_size=1), tmp_path)


@pytest.mark.parametrize("order", [1, 2])
def test_slope_is_the_exponent_and_ignores_large_beta_and_rounding(order):
    betas = np.logspace(-4, 0, 13)
    least, most = gradients.FITTED
    errors = 3 * betas**order + 50 * (betas > most) + 50 * (betas < least)
    assert gradients.slope(betas, errors) == pytest.approx(order, abs=1e-9)


def test_compare_tells_cosine_and_relative_error_by_part():
    exact = {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}
    estimate = {"a": np.array([4.0, -3.0]), "b": np.array([1.5])}
    found = gradients.compare(estimate, exact)
    assert found["cosine"] == {"a": pytest.approx(0.0), "b": pytest.approx(1.0)}
    assert found["error"] == {"a": pytest.approx(np.sqrt(2)), "b": pytest.approx(0.5)}
    assert found["error_of_all"] == pytest.approx(np.sqrt((1 + 49 + 0.25) / 26))


def phase(norms, k1, linear=True):
    flags = np.full(len(norms), linear)
    return {"synchronous": norms, "alternating": norms, "linear": flags, "K1": k1}


def test_a_decay_under_its_bound_is_reported_and_one_over_it_is_refused():
    norms = 0.5 ** np.arange(10)
    fair = contraction.judge(phase(norms, np.full(10, 0.3)), (0.2, 0.1), beta=-0.5, kappa=2.0)
    assert fair["ratio"] == pytest.approx(0.5)
    assert fair["largest_ratio_to_bound"] == pytest.approx(0.5 / (0.3 + 0.1 + 0.1))
    assert fair["steps_linear"] == 9 and fair["steps_with_a_jump"] == 0
    with pytest.raises(AssertionError, match="over its bound"):
        contraction.judge(phase(norms, np.full(10, 0.1)), (0.2, 0.1), beta=-0.5, kappa=2.0)
    jumped = contraction.judge(
        phase(norms, np.full(10, 0.1), linear=False), (0.2, 0.1), beta=-0.5, kappa=2.0
    )
    assert jumped["steps_with_a_jump"] == 9 and jumped["largest_ratio_at_a_jump"] == 0.5


def test_largest_beta_is_where_the_condition_of_theorem_3_1_is_met_with_equality():
    row = {"K1": 0.4, "K2": 0.5, "K3": 0.25}
    beta = contraction_told.largest_beta({"kappa": 2.0}, row)
    assert row["K1"] + beta * row["K2"] + beta * 2.0 * row["K3"] == pytest.approx(1)
    assert contraction_told.largest_beta({"kappa": 2.0}, {**row, "K1": 1.1}) == 0


def test_energy_counts_as_settled_after_its_last_excursion():
    energy = [10.0, 5.0, 0.05, 0.2, 0.0, 0.0]
    assert convergence.settled_after({"energy": energy}, 1) == 5
    assert convergence.settled_after({"energy": energy}, 2) == 10


def test_spread_compares_the_smallest_gradient_with_the_largest():
    assert vanishing.spread([4.0, 1.0, None, 2.0, 8.0]) == pytest.approx(0.125)


def test_dip_compares_the_smallest_inner_gradient_with_the_smaller_end():
    assert vanishing.dip([4.0, 1.0, None, 2.0, 8.0]) == pytest.approx(0.25)


def test_three_epochs_are_the_ends_of_the_thirds():
    rows = [
        {"epoch": e, "layer": n, "activity": e, "gradient": 1.0, "displacement": None}
        for e in range(1, 10)
        for n in ("conv1", "readout")
    ]
    found = vanishing.three_epochs(rows)
    assert found["layers"] == ["conv1", "readout"]
    assert [key for key in found if key.startswith("epoch")] == ["epoch 3", "epoch 6", "epoch 9"]
    assert found["epoch 6"]["activity"] == [6, 6]


def test_schedules_start_at_one_and_the_exponential_falls_as_much_in_fewer_epochs():
    decay = schedules.decay()
    assert all(values[0] == 1 for values in decay.values())
    assert decay["exponential"][-1] == pytest.approx(np.exp(-5), rel=1e-4)
    assert decay["linear"][-1] == pytest.approx(0, abs=1e-6)
    assert decay["cosine"][125] == pytest.approx(0.5, abs=1e-6)
    run = schedules.specs("small")["LE, exponential, seed 0"]
    settings = runs.settings_of(run)
    assert settings.kappa_gamma * settings.epochs == pytest.approx(5)


def test_percent_and_markdown():
    assert show.percent([0.5, 0.7]) == "60.0 ± 14.1"
    assert show.percent([0.5]) == "50.0"
    assert show.markdown(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"


def row(accuracy, epochs=4, **more):
    curve = list(np.linspace(0.1, accuracy, epochs))
    return {
        "train_accuracy": accuracy,
        "test_accuracy": accuracy,
        "best_test_accuracy": accuracy,
        "epochs": epochs,
        "training_seconds": 3.0,
        "train_loss": curve[::-1],
        "test_loss": curve[::-1],
        "train_acc": curve,
        "test_acc": curve,
        **more,
    }


def depth_result():
    accuracy = {"STD": 0.1, "LE": 0.9, "KD": 0.8}
    return {
        "runs": {
            f"digits, {d}, {s}, seed {n}": row(accuracy[s] + 0.01 * n)
            for d in depth.DEPTHS
            for s in depth.SIGNALS
            for n in (0, 1)
        }
    }


def test_depth_gap_is_worst_against_best_and_is_what_the_report_says():
    worst, mean = depth.gap(depth_result(), "digits", "LE")
    assert (worst, mean) == (pytest.approx(0.79), pytest.approx(0.80))
    told = {claim.statement: claim for claim in depth.claims(depth_result())}
    claim = told["digits: 11 layers learn with LE"]
    assert claim.here == "+80.0 points to STD (worst seed against best: +79.0)" and claim.holds
    assert told["digits: 11 layers do not"].holds
    assert not told["digits: 5 layers learn without signals"].holds


def test_dynamics_compares_the_default_with_the_paper():
    result = {
        "runs": {
            "net, β 2, paper": row(0.5, training_seconds=12.0),
            "net, β 2, default": row(0.75, training_seconds=3.0),
        }
    }
    accuracy, speed = dynamics.claims(result)
    assert accuracy.statement.startswith("net, β 2: the default's phases train as well")
    assert accuracy.here == "+25.0 points" and accuracy.holds
    assert speed.here == "4.0 times as fast" and speed.holds


def test_reached_is_the_first_epoch_at_a_level():
    assert curves.reached([0.1, 0.5, 0.4, 0.9], 0.5) == 2
    assert curves.reached([0.1], 0.5) is None
