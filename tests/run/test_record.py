"""What a run keeps, and that a bystander keeps nothing."""

import dataclasses

import jax.numpy as jnp
import pytest

from jaxep.run.errors import CheckpointError
from jaxep.run.record import Bystander, Record
from jaxep.run.reporting import read_metrics
from jaxep.training.settings import from_config, load_config_file

SETTINGS = from_config(load_config_file("configs/digits_le.py"))
STATE = {"w": jnp.arange(3.0)}
WARNING = {("dead", "conv1"): "conv1 is dead"}


def use(record, first, last):
    """Epochs `first` to `last` of 10 updates each, a checkpoint after each."""
    state, seconds = record.restore(STATE, 10)
    for epoch in range(first, last + 1):
        record.progress(10, 10)
        record.epoch({"epoch": epoch, "skipped": 0}, [])
        record.warn(WARNING)
        record.save(10 * epoch, {"w": STATE["w"] + epoch}, {"seconds": 0.0})
    record.wait()
    return state, seconds


def test_a_record_goes_on_within_an_epoch_with_its_seconds(tmp_path, capsys):
    with Record(SETTINGS, tmp_path) as record:
        assert record.last() == "no checkpoint"
        use(record, 1, 2)
        record.epoch({"epoch": 3, "skipped": 0}, [])  # its row, but not its checkpoint
        record.save(25, {"w": STATE["w"] + 7}, {"seconds": 1.5})
        assert record.last() == "the checkpoint of update 25"
    with Record(SETTINGS, tmp_path) as record:
        state, seconds = use(record, 3, 3)
    assert seconds == 1.5 and state["w"].tolist() == [7, 8, 9]
    assert read_metrics(tmp_path / "metrics.csv")["epoch"] == [1, 2, 3]
    # Once for each process that ran.
    assert capsys.readouterr().err.splitlines() == ["warning: conv1 is dead"] * 2


def test_a_record_is_of_one_process_and_one_configuration(tmp_path):
    with Record(SETTINGS, tmp_path), pytest.raises(CheckpointError, match="in use"):
        Record(SETTINGS, tmp_path).__enter__()
    other = dataclasses.replace(SETTINGS, beta=0.7)
    with pytest.raises(CheckpointError, match="beta"):
        Record(other, tmp_path).__enter__()
    with Record(SETTINGS, tmp_path):  # what was refused holds nothing
        pass


def test_a_bystander_leaves_nothing(tmp_path, capsys):
    with Bystander(SETTINGS, tmp_path / "run") as record:
        assert use(record, 1, 2) == (STATE, 0.0)
        assert record.last() == "what process 0 saved"
    assert not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")
