"""What a run tells: tables that come back bit for bit, survive a crash and a resumption."""

import csv
import io
import math
import os
import re
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxep.run.errors import CheckpointError
from jaxep.run.reporting import Reporter
from jaxep.run.tables import LAYER_COLUMNS, METRIC_COLUMNS, read_layers, read_metrics


def row(epoch, **columns):
    values = dict.fromkeys(METRIC_COLUMNS, 0.5)
    return {**values, "free_steps": 250, "nudge_steps": 50, "epoch": epoch, **columns}


def report(workdir, epochs, start=1, total=3, layers=None):
    with Reporter(workdir, total_epochs=total, start_epoch=start) as reporter:
        for epoch in epochs:
            reporter.epoch(row(epoch, train_loss=epoch / 3), layers)


def events(workdir):
    """Every event in the TensorBoard files, read by the format: length, crc, data, crc."""
    found = []
    for path in sorted(workdir.glob("events*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(workdir):
    values = [(e.step, v) for e in events(workdir) for v in e.summary.value]
    return {(value.tag, step): value.simple_value for step, value in values}


def test_metrics_have_the_columns_in_order(tmp_path):
    report(tmp_path, [1, 2])
    with open(tmp_path / "metrics.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert ",".join(header) == (
        "epoch,train_loss,train_acc,test_loss,test_acc,kappa,lr,free_steps,nudge_steps,"
        "free_residual,nudge_residual,seconds,skipped"
    )
    assert [r[0] for r in rows] == ["1", "2"]
    assert rows[0][header.index("free_steps")] == "250"


def test_a_run_has_columns_of_its_own_and_goes_on_with_them(tmp_path):
    for epoch in (1, 2):
        options = {"total_epochs": 2, "start_epoch": epoch, "more": ["free_messages"]}
        with Reporter(tmp_path, **options) as reporter:
            reporter.epoch(row(epoch, free_messages=epoch / 4))
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics["free_messages"] == [0.25, 0.5] and metrics["epoch"] == [1, 2]
    assert scalars(tmp_path)["messages/free", 2] == 0.5
    with pytest.raises(CheckpointError, match=r"metrics\.csv"):
        Reporter(tmp_path, total_epochs=3, start_epoch=3)


def test_float32_comes_back_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    with Reporter(tmp_path, total_epochs=1, start_epoch=1) as reporter:
        # One write of many layers: the tables are written anew at every epoch.
        layers = {f"a,{i}": {"activity": v} for i, v in enumerate(values)}
        reporter.epoch(row(1, train_loss=jnp.float32(values[0])), layers)
    rows = read_layers(tmp_path / "layers.csv")
    back = np.array([r["activity"] for r in rows], np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))
    assert [r["layer"] for r in rows] == [f"a,{i}" for i in range(len(values))]
    assert np.float32(read_metrics(tmp_path / "metrics.csv")["train_loss"][0]) == values[0]


def test_none_is_an_empty_cell_and_nan_is_nan(tmp_path):
    with Reporter(tmp_path, total_epochs=1, start_epoch=1) as reporter:
        reporter.epoch({"epoch": 1, "kappa": None, "test_loss": math.nan, "lr": math.inf})
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics["kappa"] == metrics["train_loss"] == [None]
    assert math.isnan(metrics["test_loss"][0]) and metrics["lr"] == [math.inf]
    assert metrics["epoch"] == [1] and isinstance(metrics["epoch"][0], int)


def test_an_unknown_column_is_refused(tmp_path):
    with (
        Reporter(tmp_path, total_epochs=1, start_epoch=1) as reporter,
        pytest.raises(ValueError, match="loss_of_train"),
    ):
        reporter.epoch({"epoch": 1, "loss_of_train": 1.0})
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == []


def test_what_a_row_does_not_have_is_an_empty_cell(tmp_path):
    report(tmp_path, [1], layers={"κ,1": {"activity": 0.5}, "readout": {"gradient": 0.25}})
    first, second = read_layers(tmp_path / "layers.csv")
    empty = dict.fromkeys(LAYER_COLUMNS[2:])
    assert first == {**empty, "epoch": 1, "layer": "κ,1", "activity": 0.5}
    assert second == {**empty, "epoch": 1, "layer": "readout", "gradient": 0.25}
    assert "nan" not in (tmp_path / "layers.csv").read_text()


@pytest.mark.parametrize(
    ("error", "warnings"), [(BrokenPipeError(32, "Broken pipe"), 0), (OSError(28, "full"), 1)]
)
def test_a_stdout_that_fails_costs_no_row(error, warnings, tmp_path, monkeypatch, capsys):
    """A reader may leave; a full disk under a log is told of once."""

    class Broken(io.StringIO):
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stdout", Broken())
    report(tmp_path, [1, 2, 3])
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1, 2, 3]
    err = capsys.readouterr().err
    assert err.count("warning: stdout cannot be written (full): ") == warnings
    assert len(err.splitlines()) == warnings


def test_a_terminal_that_is_gone_costs_no_row(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Gone())
    with Reporter(tmp_path, total_epochs=1, start_epoch=1) as reporter:
        reporter.progress(1, 2)
        reporter.progress(2, 2)
        reporter.epoch(row(1))
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1]


def test_without_streams_a_run_is_reported_to_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    report(tmp_path, [1])
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1]


def test_resuming_drops_the_rows_that_come_again(tmp_path):
    layers = {"conv0": {"activity": 0.1}, "out": {"activity": 0.2}}
    report(tmp_path, [1, 2, 3], layers=layers)
    kept = (tmp_path / "metrics.csv").read_text().splitlines()[:2]
    with Reporter(tmp_path, total_epochs=3, start_epoch=2) as reporter:
        assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1]
        assert {r["epoch"] for r in read_layers(tmp_path / "layers.csv")} == {1}
        reporter.epoch(row(2, train_loss=7.0), layers)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[:2] == kept
    assert read_metrics(tmp_path / "metrics.csv")["train_loss"][1:] == [7.0]
    assert [r["epoch"] for r in read_layers(tmp_path / "layers.csv")] == [1, 1, 2, 2]


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,score\n1,2\n")
    with pytest.raises(CheckpointError, match=r"metrics\.csv"):
        Reporter(tmp_path, total_epochs=3, start_epoch=2)
    with pytest.raises(CheckpointError, match="train_loss"):
        read_metrics(tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text() == "epoch,score\n1,2\n"


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    report(tmp_path, [1])
    before = (tmp_path / "metrics.csv").read_bytes()
    with Reporter(tmp_path, total_epochs=3, start_epoch=2) as reporter:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            reporter.epoch(row(2))
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_killed_run_leaves_whole_rows(tmp_path):
    code = f"""
import os
from jaxep.run.reporting import Reporter
with Reporter({str(tmp_path)!r}, total_epochs=3, start_epoch=1) as reporter:
    reporter.epoch({{"epoch": 1, "test_acc": 0.5}}, {{"conv0": {{"activity": 1}}}})
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    assert read_metrics(tmp_path / "metrics.csv")["test_acc"] == [0.5]
    assert [r["layer"] for r in read_layers(tmp_path / "layers.csv")] == ["conv0"]


def test_without_a_terminal_one_line_per_epoch(tmp_path, capsys):
    numbers = {
        "train_loss": 0.41234,
        "train_acc": 0.871,
        "test_acc": 0.913,
        "kappa": 0.09,
        "free_residual": 2e-3,
        "seconds": 12.41,
    }
    with Reporter(tmp_path, total_epochs=30, start_epoch=3) as reporter:
        reporter.progress(1, 2)
        reporter.epoch({"epoch": 3, **numbers})
        reporter.epoch({"epoch": 30, "train_loss": math.nan, "seconds": 1})
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "epoch  3/30  loss 0.412  acc 0.871  test 0.913  kappa 0.09  residual 2e-3  12.4 s  "
        "6 min left",
        "epoch 30/30  loss nan  1.0 s",
    ]


def test_on_a_terminal_a_bar_and_the_line(tmp_path, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Reporter(tmp_path, total_epochs=3, start_epoch=1) as reporter:
        for epoch in (1, 2):
            reporter.progress(3, 7)
            monkeypatch.setattr(reporter._bar._bar, "mininterval", 0)
            reporter.progress(7, 7)
            reporter.epoch(row(epoch))
    shown = terminal.getvalue()
    assert all(text in shown for text in ("epoch 1/3:", "epoch 2/3:", "100%", "7/7"))
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 1/3  loss .* s  1 s left", first)
    assert re.fullmatch(r"epoch 2/3  loss .* s  0 s left", second)


def test_tensorboard_events(tmp_path, caplog):
    layers = {"conv0": {"activity": 0.25, "gradient": 1e-3, "displacement": None}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Reporter(tmp_path, total_epochs=2, start_epoch=1) as reporter:
            reporter.epoch(row(1, train_loss=0.75, test_loss=math.nan, kappa=None), layers)
            reporter.epoch(row(2, train_loss=0.5, test_acc=0.9), layers)
    found = scalars(tmp_path)
    assert found["loss/train", 1] == 0.75 and found["loss/train", 2] == 0.5
    assert found["acc/test", 2] == np.float32(0.9)
    assert found["activity/conv0", 1] == 0.25 and found["steps/free", 1] == 250
    missing = {("loss/test", 1), ("kappa", 1), ("displacement/conv0", 1)}
    assert not missing & set(found) and not caplog.records


def test_tensorboard_is_told_all_again_by_a_resumption(tmp_path):
    """A kill loses the events of some seconds, and never a row of the tables."""
    layers = {"conv0": {"activity": 0.25, "zeros": 0.5}}
    report(tmp_path, [1, 2], layers=layers)
    for path in tmp_path.glob("events*"):
        path.unlink()
    report(tmp_path, [2], start=2, layers=layers)
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts == [1]
    found = scalars(tmp_path)
    for epoch in (1, 2):
        assert found["loss/train", epoch] == np.float32(epoch / 3)
        assert found["activity/conv0", epoch] == 0.25 and found["zeros/conv0", epoch] == 0.5


def test_layer_columns():
    columns = "epoch layer activity gradient displacement zeros ones"
    assert " ".join(LAYER_COLUMNS) == columns


def test_tensorboard_has_the_hyperparameters_in_the_run_itself(tmp_path):
    config = {"beta": 0.5, "hidden": (64,), "signal": "le", "augment": True}
    with Reporter(tmp_path, total_epochs=1, start_epoch=1, config=config) as reporter:
        reporter.epoch(row(1))
    told = [v for e in events(tmp_path) for v in e.summary.value if v.tag.startswith("_hparams_")]
    assert len(told) == 3 and not [path for path in tmp_path.iterdir() if path.is_dir()]
    text = b"".join(value.metadata.plugin_data.content for value in told)
    assert all(word in text for word in (b"beta", b"(64,)", b"signal", b"acc/test"))
