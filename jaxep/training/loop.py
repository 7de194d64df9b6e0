"""The training loop: `fit`, its epochs, and when it saves, warns and stops."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxep.run import health, summary
from jaxep.run.checkpoints import read_state
from jaxep.run.errors import DataError, DivergenceError, Interrupted
from jaxep.run.files import local_path
from jaxep.run.record import NullRecord, Record
from jaxep.run.workdir import check_run
from jaxep.training import data as data_lib
from jaxep.training import parallel, workdata
from jaxep.training.blockwise import blocks_task
from jaxep.training.networks import check_network
from jaxep.training.settings import Settings, as_settings, to_dict
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
TASKS = {"teacher": teacher_task, "blocks": blocks_task}
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


def make_task(
    settings: Settings,
    data: data_lib.Dataset,
    stop: Stop = never,
    own: data_lib.Dataset | None = None,
) -> Task:
    """The task that the settings name; loads the teacher that it needs, or trains it first.

    Args:
        settings: of the run.
        data: of the run.
        stop: asked while a teacher is trained.
        own: the whole data that the caller of `fit` gave, for a teacher; None: it loads its own.

    Raises:
        UserError: the settings do not fit the data, or there is no usable teacher.
    """
    check_network(settings, data.image_shape, data.num_classes)
    steps = len(data.train.labels) // settings.batch_size * settings.epochs
    if steps >= 2**31:  # updates are counted in int32
        raise DataError(f"config.epochs = {settings.epochs}: {steps} updates, must be under 2**31")
    if settings.task in TASKS:
        return TASKS[settings.task](settings, data, steps)
    if settings.signal in ("kd", "kdw"):
        train = functools.partial(fit, stop=stop, data=own)
        return ep_task(settings, data, steps, *load_teacher(settings, data, train=train))
    return ep_task(settings, data, steps)


def fit(
    settings: Settings | ConfigDict | Mapping[str, Any],
    workdir: str | Path,
    stop: Stop = never,
    data: data_lib.Dataset | None = None,
) -> dict[str, Any]:
    """Trains what the settings say, or goes on where `workdir` stopped.

    Args:
        settings: of the run, or the config that they are made of.
        workdir: where it is kept; only process 0 of a run reads and writes it.
        stop: asked between chunks of an epoch, in the caller's thread; where it says so, the state
            is saved and the run ends.
        data: of one's own, from `data.from_arrays`; None: those that the settings name. The keys
            train_size, test_size and split hold for both.

    Returns:
        What summary.json holds; {} in a process that is not the first.

    Raises:
        UserError: bad data, a missing teacher, a work directory of another run, in use or not to
            be written, an update that is not finite (`on_divergence`).
        Interrupted: `stop` said so.
    """
    settings, workdir = as_settings(settings), local_path(workdir)
    used = workdata.load_data(settings, data)
    facts = data_lib.facts(used)
    if jax.process_count() > 1:
        parallel.must_agree(workdata.shared(settings, facts))
    first = parallel.is_first()
    if first:
        check_run(workdir, to_dict(settings), workdata.may_change(settings))
        workdata.check_facts(workdir, facts)
    task = make_task(settings, used, stop, data)
    told = _ended(settings, workdir, task, len(used.train.labels)) if first else None
    if parallel.any_process(told is not None):
        return told or {}
    with _record(settings, workdir, task) as record:
        if first:
            workdata.keep_facts(workdir, facts)
        state = _train(settings, task, used, record, stop)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        return summary.conclude(workdir, parameters=parameters) if first else {}


def _train(
    settings: Settings,
    task: Task,
    data: data_lib.Dataset,
    record: Record | NullRecord,
    stop: Stop,
) -> TrainState:
    """The state at the end of the run, from where `record` stands; all of it is saved."""
    key, steps = jax.random.key(settings.seed), len(data.train.labels) // settings.batch_size
    state = init_state(task, jax.random.fold_in(key, 0))
    state, seconds = parallel.from_first(record.restore(state, steps))
    everywhere = (state, data.train, data.test, key)
    state, train, test, key = parallel.replicated(everywhere, task.mesh)
    run = _Run(settings, task, data._replace(train=train, test=test), steps, record, stop, key)
    for epoch in range(int(state.step) // steps, settings.epochs):
        state = run.epoch(state, epoch, float(seconds))
        seconds = 0.0
    record.wait()
    parallel.any_process(False)  # all may read what process 0 has saved: a teacher, say
    return state


def _ended(settings: Settings, workdir: Path, task: Task, count: int) -> dict[str, Any] | None:
    """The summary of a run that is at its end and can be read, told in one line; else None."""
    told = summary.finished(workdir, settings.epochs)
    if told is None:
        return None
    template = jax.eval_shape(functools.partial(init_state, task), jax.random.key(0))
    _, metadata = read_state(workdir, template)
    updates = settings.epochs * (count // settings.batch_size)
    if metadata["step"] < updates:  # the last one is damaged
        return None
    summary.tell_end(workdir, told)
    return told


def _record(settings: Settings, workdir: Path, task: Task) -> Record | NullRecord:
    if not parallel.is_first():
        return NullRecord()
    return Record(
        to_dict(settings),
        workdir,
        epochs=settings.epochs,
        keep=settings.keep_checkpoints,
        may_change=workdata.may_change(settings),
        more=task.statistics,
    )


class _Run(NamedTuple):
    """What does not change in a run."""

    settings: Settings
    task: Task
    data: data_lib.Dataset
    steps: int  # updates of an epoch
    record: Record | NullRecord
    stop: Stop
    key: jax.Array

    def epoch(self, state: TrainState, epoch: int, before: float) -> TrainState:
        """Trains `epoch` (from 0) to its end; `before`: its seconds before a resumption."""
        began = time.perf_counter() - before
        state = self._updates(state, epoch, jax.random.fold_in(self.key, epoch + 1), began)
        row, layers = self._judge(state, epoch)
        row["seconds"] = time.perf_counter() - began
        # The row comes first: a kill between the two repeats the epoch's last updates and the row.
        self.record.epoch(row, layers)
        self.record.warn(health.warnings(row, layers, self.steps))
        totals = jax.tree.map(jnp.zeros_like, state.totals)
        state = TrainState(**{**vars(state), "totals": totals})
        self._save(state, {"test_acc": row["test_acc"], "seconds": 0.0})
        return state

    def _updates(self, state: TrainState, epoch: int, key, began: float) -> TrainState:
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
            state = train_chunk(self.task, batch_size, state, split, first + end, key, tolerated)
            # Waiting keeps the bar honest and the queue short; chunks are long enough to hide it.
            if float(state.totals["skipped"]) > tolerated:
                raise self._divergence(state, epoch, key)
            self.record.progress(end, self.steps)
            if saved:
                self._save(state, {"seconds": time.perf_counter() - began})
        return state

    def _save(self, state: TrainState, metadata: dict[str, Any]) -> None:
        self.record.save(int(state.step), parallel.on_host(state), metadata)

    def _divergence(self, state: TrainState, epoch: int, key) -> DivergenceError:
        """What to say of the last update, which was dropped."""
        step = int(state.step) - 1
        batch_size, split = self.settings.batch_size, self.data.train
        grads, metrics = gradient_at(self.task, batch_size, state, split, step, key)
        return DivergenceError(
            f"update {step + 1} (epoch {epoch + 1}) is not finite: "
            f"{health.diagnosis(grads, metrics)}; nothing of it was saved, {self.record.last()} is "
            "kept"
        )

    def _judge(self, state: TrainState, epoch: int) -> tuple[dict, dict[str, dict[str, float]]]:
        """After the last update of an epoch: a row of metrics.csv, and the rows of layers.csv."""
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
        step = jnp.asarray(epoch * self.steps, jnp.int32)
        some = jax.tree.map(lambda leaf: leaf[:REPORT_IMAGES], test)
        report = layer_report(self.task, *weights, step, *some, test_key)
        row = {
            "epoch": epoch + 1,
            "train_loss": means.pop("loss"),
            "train_acc": means.pop("accuracy"),
            "test_loss": float(test_loss),
            "test_acc": float(test_acc),
            "kappa": float(self.task.kappa(step)) if self.task.kappa else None,
            "lr": float(self.task.rate(step)),
            **means,
            "skipped": int(skipped),
        }
        layers = {name: jax.tree.map(float, report[name]) for name in self.task.rows}
        return row, layers
