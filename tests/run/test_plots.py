"""Pictures of a run: every panel is drawn from what there is, without a warning."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxep.run import figures, plots
from jaxep.run.about import About
from jaxep.run.tables import METRIC_COLUMNS


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved while a test runs."""
    saved = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda f, path: (saved.append(f), save(f, path)))
    return saved


def metrics(epochs, **columns):
    values = {column: list(np.linspace(1.0, 0.1, epochs)) for column in METRIC_COLUMNS}
    return {**values, "epoch": list(range(1, epochs + 1)), **columns}


def layer_rows(epochs, layers):
    return [
        {"epoch": e, "layer": f"conv{i}", "activity": 0.5, "gradient": 10.0**-i, "displacement": 1}
        for e in range(1, epochs + 1)
        for i in range(layers)
    ]


def lines(figure):
    return {
        axes.get_title(): {line.get_label(): line.get_xydata() for line in axes.get_lines()}
        for axes in figure.axes
    }


def is_picture(path, width, height):
    """A PNG of about this size that is not one colour."""
    with Image.open(path) as image:
        spread = np.asarray(image.convert("L")).std()
        near = abs(image.width - width) < 20 and abs(image.height - height) < 20
        return image.format == "PNG" and near and spread > 5


@pytest.mark.parametrize("epochs", [2, 3, 250])
def test_curves_show_every_column(tmp_path, drawn, epochs):
    plots.curves(metrics(epochs), tmp_path / "curves.png")
    assert is_picture(tmp_path / "curves.png", 1584, 912)
    panels = lines(drawn[0])
    assert {title: set(drawn) for title, drawn in panels.items()} == {
        "loss": {"train", "test"},
        "accuracy": {"train", "test"},
        "κ": {"κ"},
        "residual": {"free", "nudged"},
        "steps": {"free", "nudged"},
        "learning rate": {"learning rate"},
    }
    # Accuracies are fractions in the table and percent in the picture.
    np.testing.assert_allclose(panels["accuracy"]["test"][0], (1, 100))


def test_one_epoch_is_a_dot(tmp_path, drawn):
    plots.curves(metrics(1), tmp_path / "curves.png")
    assert set(lines(drawn[0])) == {"loss", "accuracy", "residual"}
    assert all(line.get_marker() == "." for ax in drawn[0].axes for line in ax.get_lines())


def test_settings_that_stay_the_same_are_told_in_words(tmp_path, drawn):
    same = {"kappa": [2.0] * 3, "free_steps": [16.0] * 3, "nudge_steps": [8.0] * 3}
    run = About("digits_le: digits", True, {"free_residual": 1e-3})
    plots.curves(metrics(3, **same, test_loss=[1.0] * 3), tmp_path / "curves.png", run)
    panels = lines(drawn[0])
    # A loss that stays the same is a result.
    assert set(panels) == {"loss", "accuracy", "residual", "learning rate"}
    assert set(panels["loss"]) == {"train (augmented images)", "test"}
    assert set(panels["residual"]) == {"free", "tolerance, free", "nudged"}
    np.testing.assert_array_equal(np.array(panels["residual"]["tolerance, free"])[:, 1], 1e-3)
    title = drawn[0].get_suptitle()
    assert title == "digits_le: digits\nthroughout: 16 free + 8 nudged steps, κ 2"


def test_curves_of_a_teacher_and_of_a_run_with_gaps(tmp_path, drawn):
    none, zero, gaps = [None] * 3, [0.0] * 3, [None, float("nan"), 0.5]
    table = metrics(3, kappa=none, free_steps=none, nudge_steps=none, free_residual=none)
    plots.curves({**table, "nudge_residual": zero, "train_loss": gaps}, tmp_path / "curves.png")
    panels = lines(drawn[0])
    assert set(panels) == {"loss", "accuracy", "residual", "learning rate"}
    assert set(panels["residual"]) == {"nudged"}
    np.testing.assert_array_equal(panels["loss"]["train"][:, 1], [np.nan, np.nan, 0.5])


@pytest.mark.parametrize(("epochs", "shown"), [(30, (1, 15, 30)), (3, (1, 2, 3)), (2, (1, 2))])
def test_layers_show_the_first_epoch_the_middle_and_the_last(tmp_path, drawn, epochs, shown):
    plots.layers(layer_rows(epochs, 13), tmp_path / "layers.png")
    assert is_picture(tmp_path / "layers.png", 1584, 480)
    for axes in drawn[0].axes:
        labels = [line.get_label() for line in axes.get_lines()]
        assert labels == [f"epoch {epoch}" for epoch in shown]
        assert [text.get_text() for text in axes.get_xticklabels()] == [
            f"conv{i}" for i in range(13)
        ]
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["linear", "log", "log"]


def test_layers_show_the_shares_of_dead_and_saturated_states(tmp_path, drawn):
    rows = [{**row, "zeros": 0.25, "ones": 0.5} for row in layer_rows(2, 3)]
    plots.layers(rows, tmp_path / "layers.png")
    panels = lines(drawn[0])
    np.testing.assert_array_equal(panels["zeros"]["epoch 2"][:, 1], [0.25] * 3)
    np.testing.assert_array_equal(panels["ones"]["epoch 1"][:, 1], [0.5] * 3)


def test_layer_names_do_not_overlap(tmp_path, drawn):
    plots.layers(layer_rows(1, 13), tmp_path / "layers.png")
    for axes in drawn[0].axes:
        # At 60 degrees, text of height h needs h / sin(60) between its anchors.
        place = [label.get_window_extent().x1 for label in axes.get_xticklabels()]
        height = axes.get_xticklabels()[0].get_fontsize() * drawn[0].dpi / 72
        assert np.diff(place).min() > height / np.sin(np.radians(60))


def test_layers_leave_gaps_for_what_is_missing_or_zero(tmp_path, drawn):
    rows = [
        {"epoch": 1, "layer": "conv0", "activity": 0.0, "gradient": 0.0, "displacement": None},
        {"epoch": 1, "layer": "out", "activity": float("nan"), "gradient": 1e-3},
    ]
    plots.layers(rows, tmp_path / "layers.png")
    panels = lines(drawn[0])
    np.testing.assert_array_equal(panels["activity"]["epoch 1"][:, 1], [0.0, np.nan])
    np.testing.assert_array_equal(panels["gradient"]["epoch 1"][:, 1], [np.nan, 1e-3])
    assert "displacement" not in panels


def test_layers_of_a_run_without_rows(tmp_path):
    plots.layers([], tmp_path / "layers.png")
    assert is_picture(tmp_path / "layers.png", 528, 480)


def test_matplotlib_keeps_its_global_state(tmp_path):
    code = f"""
import sys, jaxep.run.plots
jaxep.run.plots.layers([], {str(tmp_path / "layers.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
