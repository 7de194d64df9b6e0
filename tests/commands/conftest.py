"""A trained run, and tables of runs that were never trained."""

import json

import pytest

from jaxep.run.tables import METRIC_COLUMNS
from jaxep.training import Settings, fit

SMALL = {
    "dataset": "digits",
    "train_size": 60,
    "test_size": 30,
    "conv": "",
    "hidden": (8,),
    "solver": "fixed",
    "relaxation": 1.0,
    "t_free": 8,
    "t_nudge": 4,
    "beta": 0.5,
    "batch_size": 10,
    "eval_batch_size": 20,
    "epochs": 2,
    "learning_rates": 0.1,
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The work directory of a run of two epochs on a few digits."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    fit(Settings(name="small", **SMALL), workdir)
    return workdir


@pytest.fixture
def told(tmp_path):
    """A function that writes what a run leaves: its settings, and a row of metrics.csv an epoch."""

    def write(name, accuracies, /, epochs=None, losses=None, **config):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        settings = {"name": "told", "seed": 0, "epochs": epochs or len(accuracies), **config}
        (folder / "config.json").write_text(json.dumps(settings))
        rows = [",".join(METRIC_COLUMNS)]
        for place, accuracy in enumerate(accuracies):
            loss = losses[place] if losses else 1.0
            cells = {"epoch": place + 1, "test_acc": accuracy, "test_loss": loss, "seconds": 2.0}
            row = [cells.get(column) for column in METRIC_COLUMNS]
            rows.append(",".join("" if cell is None else str(cell) for cell in row))
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        return folder

    return write
