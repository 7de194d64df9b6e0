"""Tables of several runs: which are one row, and what stands in it."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

from jaxep.commands.compare import compare
from jaxep.run import comparison, comparison_plot, figures
from jaxep.run.errors import CheckpointError, SettingsError

ACCURACIES = {
    (0.5, 0): [0.2, 0.6],
    (0.5, 1): [0.4, 0.9],
    (10.0, 0): [0.5, 0.4],
    (2.0, 0): [0.1, 0.2],
}


@pytest.fixture
def sweep(told, tmp_path):
    """The folder of four runs, two of which differ by seed alone."""
    for (beta, seed), accuracies in ACCURACIES.items():
        told(f"sweep/beta={beta:g},seed={seed}", accuracies, beta=beta, seed=seed)
    (tmp_path / "sweep" / "logs").mkdir()
    return tmp_path / "sweep"


def rows_of(folder):
    with open(folder / "comparison.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_runs_that_differ_by_seed_alone_are_one_row_with_their_mean_and_std(
    sweep, tmp_path, capsys
):
    compare([str(sweep), "--out", str(tmp_path / "out")])
    rows = rows_of(tmp_path / "out")
    assert [row["label"] for row in rows] == ["beta=0.5", "beta=2", "beta=10"]
    first, last = rows[0], rows[2]
    assert (first["beta"], first["seeds"], first["unfinished"]) == ("0.5", "2", "0")
    assert float(first["final_test_acc_mean"]) == pytest.approx(0.75)
    assert float(first["final_test_acc_std"]) == pytest.approx(0.3 / np.sqrt(2))
    assert float(last["final_test_acc_mean"]) == 0.4 and float(last["best_test_acc_mean"]) == 0.5
    assert last["final_test_acc_std"] == "" and float(first["seconds"]) == 4.0
    out = capsys.readouterr().out
    assert "75.00 ± 21.21" in out and re.search(r"\nbeta=10 +1 +2 +40.00 +50.00 +4.0\n", out)
    assert Image.open(tmp_path / "out" / "comparison.png").size[0] > 1000


def test_without_out_nothing_is_written(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    compare([str(sweep)])
    assert sorted(tmp_path.rglob("*")) == before and "beta=0.5" in capsys.readouterr().out


def test_a_run_that_is_named_twice_counts_once(sweep):
    one = sweep / "beta=0.5,seed=0"
    runs = comparison.find_runs([one, sweep, one / ".." / one.name])
    assert len(runs) == len(ACCURACIES) and runs[0].folder == one


def test_an_unfinished_run_is_told_and_kept_out_of_the_statistics(sweep, told, tmp_path, capsys):
    told("sweep/beta=2,seed=1", [0.9], epochs=2, beta=2.0, seed=1)
    told("sweep/beta=3,seed=0", [0.7], epochs=2, beta=3.0)
    compare([str(sweep), "--out", str(tmp_path / "out")])
    half, alone = rows_of(tmp_path / "out")[1:3]
    assert (half["beta"], half["seeds"], half["unfinished"]) == ("2.0", "1", "1")
    assert float(half["final_test_acc_mean"]) == 0.2
    assert (alone["beta"], alone["seeds"], float(alone["final_test_acc_mean"])) == ("3.0", "1", 0.7)
    out = capsys.readouterr().out
    assert "beta=2,seed=1, epoch 1 of 2, in the picture alone" in out
    assert "beta=3,seed=0, epoch 1 of 2\n" in out and re.search(r"\nbeta=3 +1 +1 of 2 +70.00 ", out)


def test_names_tell_experiments_apart_and_their_keys_are_listed(told, capsys):
    one = told("a", [0.1], name="first", task="ep", conv="8 M")
    other = told("b", [None], name="second", task="teacher", hidden=[64])
    compare([str(one), str(other)])
    out = capsys.readouterr().out
    assert "\nfirst " in out and re.search(r"\nsecond +1 +1 +- +- ", out)
    assert "they differ in name, task, conv, hidden" in out


def test_many_keys_and_long_values_are_cut_and_told_below():
    run = comparison.Run(comparison.Path("here"), {}, {"epoch": [1], "test_acc": [0.5]})
    configs = [{"name": "x", **{key: n for key in "abcdef"}, "epochs": 1} for n in (1, 2)]
    groups = comparison.group([run._replace(config=config) for config in configs])
    assert groups[1].label == "a=2 b=2 c=2 d=2 …"
    assert "they differ in a, b, c, d, e, f" in comparison.table(groups)
    one, other = ({"name": "x", "epochs": 1, "conv": "8 M " * 20 + end} for end in "ab")
    places = {"one": one, "two": other}
    runs = [run._replace(config=c, folder=comparison.Path(p)) for p, c in places.items()]
    groups = comparison.group(runs)
    first, second = (one.label for one in groups)
    assert first.endswith("… (one)") and second.endswith("… (two)") and len(first) < 60


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (2.0, "2"), ([64], "(64,)"), ([0.1, 1.0], "(0.1, 1)")]
)
def test_values_read_as_they_are_written(value, text):
    assert comparison.text_of(value) == text


def test_what_cannot_be_read_is_left_out_with_a_warning(sweep, told, capsys):
    strange = told("sweep/strange", [0.5])
    (strange / "metrics.csv").write_text("epoch,accuracy\n1,0.5\n")
    (told("sweep/young", []) / "metrics.csv").unlink()
    told("sweep/empty", [], epochs=3)
    assert len(comparison.find_runs([sweep])) == len(ACCURACIES)
    err = capsys.readouterr().err
    assert "strange" in err and "is not a table" in err
    assert "young has no metrics.csv yet" in err and "empty has no epoch yet" in err


def test_a_place_without_runs_is_one_sentence(tmp_path, told):
    with pytest.raises(CheckpointError, match="nothere: no such folder"):
        comparison.find_runs([tmp_path / "nothere"])
    (tmp_path / "void").mkdir()
    with pytest.raises(CheckpointError, match="no folder of runs"):
        comparison.find_runs([tmp_path / "void"])
    with pytest.raises(CheckpointError, match="nothing to compare"):
        comparison.find_runs([told("young", [])])
    with pytest.raises(SettingsError, match="RUN"):
        compare([])


def test_a_place_that_cannot_be_written_is_one_sentence(sweep, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: it cannot be written"):
        compare([str(sweep), "--out", str(tmp_path / "file")])


def lines_drawn(groups, tmp_path, monkeypatch):
    """What `draw` puts on its axes: for each panel its lines as (label, style, x, y)."""
    pages = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: pages.append(figure))
    comparison_plot.draw(groups, tmp_path / "picture.png")
    (page,) = pages
    return [
        [(li.get_label(), li.get_linestyle(), *li.get_data()) for li in axes.get_lines()]
        for axes in page.axes
    ]


def test_the_line_is_the_mean_and_dotted_where_runs_are_missing(told, tmp_path, monkeypatch):
    told("s/0", [0.2, 0.4, 0.6], seed=0, losses=[3.0, None, 1.0])
    told("s/1", [0.4], epochs=3, seed=1)
    groups = comparison.group(comparison.find_runs([tmp_path / "s"]))
    accuracy, _ = lines_drawn(groups, tmp_path, monkeypatch)
    (label, style, epochs, mean), (_, dotted, late, rest) = accuracy
    assert (label, style, dotted) == ("told", "-", ":")
    np.testing.assert_allclose(mean, [30.0]), np.testing.assert_allclose(epochs, [1])
    np.testing.assert_allclose(late, [1, 2, 3]), np.testing.assert_allclose(rest, [30, 40, 60])


def test_a_column_without_a_value_is_a_panel_without_lines(told, tmp_path, monkeypatch):
    groups = comparison.group(comparison.find_runs([told("one", [None, None])]))
    accuracy, loss = lines_drawn(groups, tmp_path, monkeypatch)
    assert accuracy == [] and len(loss) == 2
