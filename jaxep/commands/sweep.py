"""jaxep sweep --config NAME --over KEY=V1,V2 [--over ...] [--seeds N] [--jobs N] [--workdir DIR]
            [--config.key=value ...]

trains once for each combination of the values and each of the seeds 0..N-1 (without --seeds: that
of the config), as `jaxep train` does it. Values are Python literals, or else texts:

  --over beta=.5,1,2   --over "hidden=(64,),(128, 64)"   --over solver=fixed,tolerance

Each run is a process with a folder of its own under DIR (runs/NAME_sweep), as beta=0.5,seed=0;
what it prints is in DIR/logs. --jobs N runs N of them at a time, each on its share of the cores.
All keys and values are checked before the first run. The same command again skips the runs that are
finished and goes on with the others. At the end: the table of `jaxep compare`, and comparison.csv
and comparison.png in DIR; exit status 1 where a run failed.
"""

import argparse
import ast
import itertools
import re
import shlex
import signal
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxep import process
from jaxep.commands.compare import tell
from jaxep.commands.jobs import Event, Job, run_all
from jaxep.commands.options import Parser, parse
from jaxep.run import comparison, console, summary
from jaxep.run.errors import CheckpointError, SettingsError, did_you_mean
from jaxep.run.files import local_path
from jaxep.run.workdir import check_run, held
from jaxep.training import workdata
from jaxep.training.settings import Settings, from_config, to_dict

# Of the text of a value in the name of a folder, which file systems limit to 255.
LONGEST = 60


class Planned(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its folder: the keys of the sweep with its values.
        settings: of the run.
        words: that `jaxep train` needs for these settings.
    """

    name: str
    settings: Settings
    words: list[str]


def sweep(words: Sequence[str]) -> None:
    """`jaxep sweep`.

    Args:
        words: after the command's name.
    """
    noted = process.Signals()
    # The runs need the devices: a GPU that is held here would be missing there.
    jax.config.update("jax_platforms", "cpu")
    options, rest = arguments(words)
    base = parse(rest)
    if base.coordinator or base.process_id is not None or base.num_processes:
        raise SettingsError("--coordinator is of jaxep train: a run of a sweep is one process")
    values = values_of(options.over, options.seeds, base.config)
    planned = plan(rest, values)
    directory = local_path(options.workdir or Path("runs") / f"{base.config['name']}_sweep")
    for run in planned:
        may_change = workdata.may_change(run.settings)
        check_run(directory / run.name, to_dict(run.settings), may_change)
    with held(directory):
        failed = _train(planned, directory, min(options.jobs, len(planned)), noted)
        if noted():
            _end_interrupted(planned, directory, noted)
        _compare(planned, directory)
    if failed:
        told = f"{len(failed)} of {len(planned)} runs failed: {' '.join(failed)}"
        process.end(f"{told}; the same command tries them again", 1)


def arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of a sweep alone, and the words that its runs have in common.

    Raises:
        SettingsError: a flag is bad.
    """
    parser = Parser("sweep")
    parser.add_argument("--over", action="append", default=[], metavar="KEY=V1,V2")
    parser.add_argument("--seeds", type=_count)
    parser.add_argument("--jobs", type=_count, default=1)
    parser.add_argument("--workdir")
    return parser.parse_known_args(words)


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text}: must be an integer over 0")
    return int(text)


def values_of(
    over: Sequence[str], seeds: int | None, config: dict[str, Any]
) -> dict[str, list[Any]]:
    """The values of each key of a sweep, the seed last.

    Args:
        over: KEY=V1,V2 each.
        seeds: how many; None: that of the config.
        config: every key that there is.

    Raises:
        SettingsError: a key is unknown or given twice, or has no values.
    """
    values: dict[str, list[Any]] = {}
    for text in over:
        key, sign, rest = text.partition("=")
        if key not in config:
            raise SettingsError(f"--over {text}: no such key{did_you_mean(key, config)}")
        if key in values:
            raise SettingsError(f"--over {key} is given twice: one --over has all values of a key")
        texts = split(rest) if sign else []
        if not all(texts) or not texts:
            raise SettingsError(f"--over {text}: must be KEY=V1,V2 with a value at each place")
        values[key] = [literal(one) for one in texts]
    if "seed" not in values:
        values["seed"] = list(range(seeds)) if seeds else [config["seed"]]
    elif seeds:
        raise SettingsError("--seeds and --over seed: one of them alone")
    return values


def split(text: str) -> list[str]:
    """The parts of a text between commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        depth += 0 if quote else (mark in "([{") - (mark in ")]}")
        if mark == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += mark
    return [part.strip() for part in parts]


def literal(text: str) -> Any:
    """The Python literal that a text is, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def plan(words: Sequence[str], values: dict[str, list[Any]]) -> list[Planned]:
    """The run of each combination, checked.

    Args:
        words: of `jaxep train`, for what they have in common.
        values: of each key.

    Raises:
        SettingsError: a value is not allowed, or stands twice.
    """
    planned: dict[str, Planned] = {}
    for combination in itertools.product(*values.values()):
        pairs = list(zip(values, combination, strict=True))
        own = [*words, *(f"--config.{key}={value}" for key, value in pairs)]
        settings = from_config(parse(own).config)
        name = ",".join(f"{key}={file_text(getattr(settings, key))}" for key in values)
        if name in planned:
            raise SettingsError(f"--over: {name} comes twice, each value must be another")
        planned[name] = Planned(name, settings, own)
    return list(planned.values())


def file_text(value: Any) -> str:
    """A value as it stands in the name of a folder: 0.5, 2, 128_64, 8_M_16_M."""
    text = comparison.text_of(value)
    plain = re.sub(r"[^\w.+-]+", "_", text).strip("_") or "none"
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}_{zlib.crc32(text.encode()):08x}"


def _train(
    planned: Sequence[Planned], directory: Path, at_once: int, stop: process.Signals
) -> list[str]:
    """Trains what is not finished; the names of the runs that failed."""
    jobs, failed = [], []
    for run in planned:
        folder = directory / run.name
        if summary.finished(folder, run.settings.epochs):
            console.say(f"{run.name}: is finished{_accuracy(folder)}")
            continue
        words = ["train", *run.words, "--workdir", str(folder)]
        command = [sys.executable, "-m", "jaxep.cli", *words]
        jobs.append(Job(run.name, command, directory / "logs" / run.name))
    # A teacher that is missing is trained by the first run: the next would find it half trained.
    first_alone = any(run.settings.train_teacher for run in planned)
    for event in run_all(jobs, at_once, stop, first_alone):
        _say(event, directory)
        if event.status and not stop():
            failed.append(event.job.name)
    return failed


def _say(event: Event, directory: Path) -> None:
    name, status = event.job.name, event.status
    if status is None:
        console.say(f"{name}: begins")
    elif status == 0:
        console.say(f"{name}: ends after {event.seconds:.0f} s{_accuracy(directory / name)}")
    elif status in (-signal.SIGINT, -signal.SIGTERM, 130, 143):
        console.say(f"{name}: stopped after {event.seconds:.0f} s")
    else:
        how = f"status {status}" if status > 0 else signal.Signals(-status).name
        last = event.job.last_words() or f"see {event.job.file('out')}"
        console.say(f"{name}: failed after {event.seconds:.0f} s by {how}: {last}")


def _accuracy(folder: Path) -> str:
    told = summary.finished(folder, 0) or {}
    accuracy = told.get("final_test_accuracy")
    return "" if accuracy is None else f", test accuracy {accuracy:.3f}"


def _end_interrupted(planned: Sequence[Planned], directory: Path, noted: process.Signals) -> None:
    number = noted.noted or signal.SIGTERM
    ready = sum(bool(summary.finished(directory / r.name, r.settings.epochs)) for r in planned)
    told = f"{signal.Signals(number).name}: {ready} of {len(planned)} runs are finished"
    process.end(f"{told}; to go on: {shlex.join(sys.orig_argv)}", 128 + number)


def _compare(planned: Sequence[Planned], directory: Path) -> None:
    folders = [directory / run.name for run in planned]
    try:
        runs = comparison.find_runs(f for f in folders if (f / "config.json").exists())
    except CheckpointError as error:  # all have failed before their first epoch
        console.warn(str(error))
        return
    console.say("")
    tell(runs, directory)
