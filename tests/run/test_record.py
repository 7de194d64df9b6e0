"""What a run keeps, and that a null record keeps nothing."""

import jax.numpy as jnp
import pytest

from jaxep.run.errors import CheckpointError
from jaxep.run.record import NullRecord, Record
from jaxep.run.tables import read_layers, read_metrics

CONFIG = {"name": "a run", "beta": 0.5, "hidden": (8,), "epochs": 3}
STATE = {"w": jnp.arange(3.0)}
WARNING = {("dead", "conv1"): "conv1 is dead"}


def use(record, first, last):
    """Epochs `first` to `last` of 10 updates each, a checkpoint after each."""
    state, seconds = record.restore(STATE, 10)
    for epoch in range(first, last + 1):
        record.progress(10, 10)
        record.epoch({"epoch": epoch, "skipped": 0}, {"conv1": {"activity": 0.5}})
        record.warn(WARNING)
        record.save(10 * epoch, {"w": STATE["w"] + epoch}, {"seconds": 0.0})
    record.wait()
    return state, seconds


def test_a_record_goes_on_within_an_epoch_with_its_seconds(tmp_path, capsys):
    with Record(CONFIG, tmp_path, epochs=3) as record:
        assert record.last() == "no checkpoint"
        use(record, 1, 2)
        record.epoch({"epoch": 3, "skipped": 0}, {})  # its row, but not its checkpoint
        record.save(25, {"w": STATE["w"] + 7}, {"seconds": 1.5})
        assert record.last() == "the checkpoint of update 25"
    with Record(CONFIG, tmp_path, epochs=3) as record:
        state, seconds = use(record, 3, 3)
    assert seconds == 1.5 and state["w"].tolist() == [7, 8, 9]
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1, 2, 3]
    assert [row["activity"] for row in read_layers(tmp_path / "layers.csv")] == [0.5] * 3
    # Once for each process that ran.
    assert capsys.readouterr().err.splitlines() == ["warning: conv1 is dead"] * 2


def test_a_record_is_of_one_process_and_one_configuration(tmp_path):
    with (
        Record(CONFIG, tmp_path, epochs=3),
        pytest.raises(CheckpointError, match="in use"),
        Record(CONFIG, tmp_path, epochs=3),
    ):
        pass
    with pytest.raises(CheckpointError, match="beta"), Record({"beta": 0.7}, tmp_path, epochs=3):
        pass
    with Record({**CONFIG, "beta": 0.7}, tmp_path, epochs=3, may_change={"beta": None}):
        pass  # what was refused holds nothing


def test_a_record_keeps_as_many_checkpoints_as_it_is_told(tmp_path):
    with Record(CONFIG, tmp_path, epochs=3, keep=1) as record:
        use(record, 1, 3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["30"]


def test_home_is_read_out_of_a_work_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Record(CONFIG, "~/runs/a", epochs=3) as record:
        use(record, 1, 1)
    assert (tmp_path / "runs" / "a" / "metrics.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_null_record_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with NullRecord() as record:
        assert use(record, 1, 2) == (STATE, 0.0)
        assert record.last() == "what process 0 saved"
    assert not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")
