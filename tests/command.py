"""The real command with a net that trains in seconds, for tests that need a process of its own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import jax

from jaxep.run.checkpoints import read_state
from jaxep.run.fingerprints import fingerprints, named_leaves
from jaxep.training.loop import make_task
from jaxep.training.settings import from_config, load_config_file
from jaxep.training.steps import init_state
from jaxep.training.workdata import load_data

ROOT = Path(__file__).parent.parent
# Seconds after which what does not come is taken to hang. A run here takes 20 of a core of its own;
# the core of a test may be shared by many.
PATIENCE = 900
TINY = {
    "conv": "4 M 4 M",
    "hidden": (8,),
    "learning_rates": (0.01, 0.01, 0.01, 0.01),
    "signal_layers": (0,),
    "train_size": 60,
    "test_size": 30,
    "t_free": 4,
    "t_nudge": 2,
    "batch_size": 10,
    "epochs": 3,
}


def command(workdir, *flags, config="configs/digits_le.py", **changes):
    """The words of the command: digits_le, as small as TINY, with `changes`."""
    values = [f"--config.{key}={value}" for key, value in {**TINY, **changes}.items()]
    train = str(ROOT / "train.py")
    return [sys.executable, train, "--config", config, "--workdir", str(workdir), *values, *flags]


def start(words, new_session=False, **environment):
    """The process of a command; one CPU device, so that runs compare bit for bit."""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", **environment}
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
    )


def finish(process):
    """(status, stdout, stderr) of a process that ends by itself."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


def run(words, **environment):
    """(status, stdout, stderr) of a command."""
    return finish(start(words, **environment))


def rows(workdir):
    """metrics.csv without the seconds, which no two runs share."""
    path = Path(workdir) / "metrics.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        table = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in table]


def ending(workdir, **changes):
    """All that a run computed: its tables and the bits of its last state, by name."""
    values = {**load_config_file("configs/digits_le.py").to_dict(), **TINY, **changes}
    settings = from_config(values)
    task = make_task(settings, load_data(settings))
    template = jax.eval_shape(lambda key: init_state(task, key), jax.random.key(0))
    state, metadata = read_state(workdir, template)
    bits = fingerprints(named_leaves(state))
    return rows(workdir), (Path(workdir) / "layers.csv").read_text(), bits, metadata["step"]
