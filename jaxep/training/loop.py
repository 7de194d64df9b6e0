"""The training loop: `fit`, its epochs, and when it saves, warns and stops."""

import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.run import health
from jaxep.run.errors import DataError, DivergenceError, Interrupted
from jaxep.run.record import Bystander, Record
from jaxep.run.reporting import read_layers, read_metrics, write_summary
from jaxep.training import data as data_lib
from jaxep.training import parallel
from jaxep.training.settings import Settings
from jaxep.training.steps import (
    TrainState,
    evaluate,
    gradient_at,
    init_state,
    layer_report,
    train_chunk,
)
from jaxep.training.tasks import Task, ep_task
from jaxep.training.teaching import load_teacher, teacher_task

# An epoch is cut in as many calls of the device: the progress bar moves, and the run can stop.
CHUNKS = 20
# Images of the per-layer report of each epoch (Fig. 5).
REPORT_IMAGES = 100
# Dropped updates that do not end the run, by `on_divergence`.
TOLERATED = {"stop": 0.0, "skip": math.inf}
Stop = Callable[[], bool]


def chunk_ends(done: int, steps: int, every: int) -> Iterator[tuple[int, bool]]:
    """Where the chunks of an epoch end, and whether there is a checkpoint within the epoch.

    Args:
        done: updates of the epoch already done.
        steps: updates of the epoch.
        every: updates between checkpoints; 0: none before the end.
    """
    saved = set(range(every, steps, every)) if every else set()
    even = {math.ceil(steps * (chunk + 1) / CHUNKS) for chunk in range(CHUNKS)}
    for place in sorted(saved | even):
        if place > done:
            yield place, place in saved


def never() -> bool:
    """No reason to stop."""
    return False


def make_task(settings: Settings, data: data_lib.Dataset, stop: Stop = never) -> Task:
    """The task that the settings name; loads the teacher that it needs, or trains it first."""
    steps = len(data.train.labels) // settings.batch_size * settings.epochs
    if steps >= 2**31:  # updates are counted in int32
        raise DataError(f"config.epochs = {settings.epochs}: {steps} updates, must be under 2**31")
    if settings.task == "teacher":
        return teacher_task(settings, data, steps)
    if settings.signal in ("kd", "kdw"):
        train = functools.partial(fit, stop=stop)
        return ep_task(settings, data, steps, *load_teacher(settings, data, train=train))
    return ep_task(settings, data, steps)


def fit(settings: Settings, workdir: str | Path, stop: Stop = never) -> dict[str, Any]:
    """Trains what the settings say, or goes on where `workdir` stopped (SPEC 8).

    Args:
        settings: of the run.
        workdir: where it is kept; only process 0 of a run reads and writes it.
        stop: asked between chunks of an epoch, in the caller's thread; where it says so, the state
            is saved and the run ends.

    Returns:
        What summary.json holds; {} in a process that is not the first.

    Raises:
        UserError: bad data, a missing teacher, a work directory of another run, in use or not to
            be written, an update that is not finite (`on_divergence`).
        Interrupted: `stop` said so.
    """
    data = load_data(settings)
    task = make_task(settings, data, stop)
    key = jax.random.key(settings.seed)
    keeper = Record if parallel.is_first() else Bystander
    with keeper(settings, workdir) as record:
        state = init_state(task, jax.random.fold_in(key, 0))
        steps = len(data.train.labels) // settings.batch_size
        state, seconds = parallel.from_first(record.restore(state, steps))
        everywhere = (state, data.train, data.test, key)
        state, train, test, key = parallel.replicated(everywhere, task.mesh)
        data = data._replace(train=train, test=test)
        run = _Run(settings, task, data, steps, record, stop, key)
        for epoch in range(int(state.step) // steps, settings.epochs):
            state = run.epoch(state, epoch, float(seconds))
            seconds = 0.0
        record.wait()
        parallel.any_process(False)  # all may read what process 0 has saved: a teacher, say
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        return _conclude(Path(workdir), parameters) if parallel.is_first() else {}


class _Run(NamedTuple):
    """What does not change in a run."""

    settings: Settings
    task: Task
    data: data_lib.Dataset
    steps: int  # updates of an epoch
    record: Record | Bystander
    stop: Stop
    key: jax.Array

    def epoch(self, state: TrainState, epoch: int, before: float) -> TrainState:
        """Trains `epoch` (from 0) to its end; `before`: its seconds before a resumption."""
        began = time.perf_counter() - before
        epoch_key = jax.random.fold_in(self.key, epoch + 1)
        kappa = np.float32(self.task.kappa(epoch) if self.task.kappa else 0.0)
        state = self._updates(state, epoch, epoch_key, kappa, began)
        row, layers = self._judge(state, epoch, kappa)
        row["seconds"] = time.perf_counter() - began
        # The row comes first: a kill between the two repeats the epoch's last updates and the row.
        self.record.epoch(row, layers)
        self.record.warn(health.warnings(row, layers, self.steps))
        totals = jax.tree.map(jnp.zeros_like, state.totals)
        state = TrainState(**{**vars(state), "totals": totals})
        self._save(state, {"test_acc": row["test_acc"], "seconds": 0.0})
        return state

    def _updates(self, state: TrainState, epoch: int, key, kappa, began: float) -> TrainState:
        """The chunks of an epoch that are still to do."""
        first, batch_size = epoch * self.steps, self.settings.batch_size
        tolerated = TOLERATED[self.settings.on_divergence]
        every = self.settings.checkpoint_every
        for end, saved in chunk_ends(int(state.step) - first, self.steps, every):
            if parallel.any_process(self.stop()):
                self._save(state, {"seconds": time.perf_counter() - began})
                self.record.wait()
                raise Interrupted(f"saved after update {int(state.step)}, in epoch {epoch + 1}")
            split = self.data.train
            state = train_chunk(
                self.task, batch_size, state, split, first + end, key, kappa, tolerated
            )
            # Waiting keeps the bar honest and the queue short; chunks are long enough to hide it.
            if float(state.totals["skipped"]) > tolerated:
                raise self._divergence(state, epoch, key, kappa)
            self.record.progress(end, self.steps)
            if saved:
                self._save(state, {"seconds": time.perf_counter() - began})
        return state

    def _save(self, state: TrainState, metadata: dict[str, Any]) -> None:
        self.record.save(int(state.step), state, metadata)

    def _divergence(self, state: TrainState, epoch: int, key, kappa) -> DivergenceError:
        """What to say of the last update, which was dropped."""
        step = int(state.step) - 1
        grads, metrics = gradient_at(
            self.task, self.settings.batch_size, state, self.data.train, step, key, kappa
        )
        found = health.diagnosis(grads, metrics, self.task.layer_names)
        return DivergenceError(
            f"update {step + 1} (epoch {epoch + 1}) is not finite: {found}; nothing of it was "
            f"saved, {self.record.last()} is kept"
        )

    def _judge(self, state: TrainState, epoch: int, kappa) -> tuple[dict, list[dict]]:
        """After the last update of an epoch: rows of metrics.csv and layers.csv."""
        skipped = float(state.totals["skipped"])
        kept = self.steps - skipped
        means = {
            name: float(total) / kept if kept else math.nan for name, total in state.totals.items()
        }
        # The key of the evaluation is one for the whole run: test numbers differ by weights alone.
        test_key, test = jax.random.fold_in(self.key, 0), self.data.test
        weights = state.params, state.extra
        size = min(self.settings.eval_batch_size, len(test.labels))
        test_loss, test_acc = evaluate(self.task, size, *weights, test, test_key)
        some = jax.tree.map(lambda leaf: leaf[:REPORT_IMAGES], test)
        columns = layer_report(self.task, *weights, *some, test_key, kappa)
        row = {
            "epoch": epoch + 1,
            "train_loss": means.pop("loss"),
            "train_acc": means.pop("accuracy"),
            "test_loss": float(test_loss),
            "test_acc": float(test_acc),
            "kappa": float(kappa) if self.task.kappa else None,
            "lr": float(self.task.rate(jnp.asarray(epoch * self.steps, jnp.int32))),
            **means,
            "skipped": int(skipped),
        }
        columns = {name: [float(value) for value in column] for name, column in columns.items()}
        layers = [
            {"layer": name, **{k: v[i] for k, v in columns.items()}}
            for i, name in enumerate(self.task.layer_names)
        ]
        return row, layers


def _conclude(workdir: Path, parameters: int) -> dict[str, Any]:
    """Draws the run and writes its summary."""
    # Matplotlib takes a second to import, and a run that fails early needs none of it.
    from jaxep.run import plots

    plots.curves(read_metrics(workdir / "metrics.csv"), workdir / "curves.png")
    plots.layers(read_layers(workdir / "layers.csv"), workdir / "layers.png")
    return write_summary(workdir, parameters=parameters)


def load_data(settings: Settings) -> data_lib.Dataset:
    """The data of the settings, on the device.

    Raises:
        DataError: missing or bad data, or fewer images than one batch.
    """
    data = data_lib.load(
        settings.dataset,
        data_dir=settings.data_dir,
        train_size=settings.train_size,
        test_size=settings.test_size,
        split=settings.split,
        std_scale=settings.std_scale,
    )
    if len(data.train.labels) < settings.batch_size:
        raise DataError(
            f"config.batch_size = {settings.batch_size}: at most {len(data.train.labels)}, "
            f"the number of training images"
        )
    return data._replace(
        train=jax.tree.map(jnp.asarray, data.train), test=jax.tree.map(jnp.asarray, data.test)
    )
