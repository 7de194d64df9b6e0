"""Several runs side by side: groups that differ by seed alone, and their table."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxep.run import console
from jaxep.run.errors import CheckpointError
from jaxep.run.files import StrPath, local_path, write_atomically
from jaxep.run.tables import read_metrics
from jaxep.run.workdir import read_config

# A label of more keys, or with longer values, is longer than what it labels.
SHOWN_KEYS, LONGEST = 4, 40


class Run(NamedTuple):
    """One run, as its work directory tells it.

    Attributes:
        folder: the work directory.
        config: every key of its settings, as JSON values.
        metrics: metrics.csv by column, a value or None for each epoch; at least one epoch.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, list[Any]]

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.metrics["epoch"])

    @property
    def finished(self) -> bool:
        """Whether these are all that its settings ask for."""
        return self.epochs >= int(self.config.get("epochs", 0))

    def values(self, column: str) -> np.ndarray:
        """A column as numbers [epochs], nan where it has none."""
        cells = self.metrics.get(column) or [None] * self.epochs
        return np.array([math.nan if cell is None else float(cell) for cell in cells])


class Group(NamedTuple):
    """Runs that differ by seed alone.

    Attributes:
        label: what tells them from the other groups.
        keys: the keys that differ between groups, with the values of this one.
        runs: all of them.
    """

    label: str
    keys: dict[str, Any]
    runs: list[Run]

    @property
    def counted(self) -> list[Run]:
        """The runs of the statistics: those at their end, or all where none is."""
        return [run for run in self.runs if run.finished] or self.runs

    def statistics(self) -> dict[str, Any]:
        """One row of the table; accuracies as shares, None where there is no number."""
        counted = self.counted
        final = [run.values("test_acc")[-1] for run in counted]
        best = [_largest(run.values("test_acc")) for run in counted]
        return {
            "seeds": len(counted),
            "unfinished": sum(not run.finished for run in self.runs),
            "first_epochs": min(run.epochs for run in counted),
            "last_epochs": max(run.epochs for run in counted),
            **_moments("final_test_acc", final),
            **_moments("best_test_acc", best),
            "seconds": float(np.mean([np.nansum(run.values("seconds")) for run in counted])),
        }


def find_runs(places: Iterable[StrPath]) -> list[Run]:
    """The runs in some folders, each a run or a folder that holds runs; a run counts once.

    What cannot be read, or has no epoch yet, is left out with a warning.

    Raises:
        CheckpointError: a place is neither, or no run is left.
    """
    folders: dict[Path, Path] = {}
    for place in places:
        for folder in _folders_of_runs(local_path(place)):
            folders.setdefault(folder.resolve(), folder)
    runs = [run for folder in folders.values() if (run := _read(folder))]
    if not runs:
        told = ", ".join(str(folder) for folder in folders.values())
        raise CheckpointError(f"there is nothing to compare: no run has an epoch in {told}")
    return runs


def _folders_of_runs(place: Path) -> list[Path]:
    if (place / "config.json").exists():
        return [place]
    inside = sorted(place.glob("*/config.json"), key=lambda path: _natural(path.parent.name))
    if not inside:
        why = "no run (config.json) and no folder of runs" if place.is_dir() else "no such folder"
        raise CheckpointError(f"{place}: {why}")
    return [path.parent for path in inside]


def _natural(name: str) -> list[tuple[float, str]]:
    """What sorts beta=2 before beta=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", name)
    return [(float(p), "") if i % 2 else (-1.0, p) for i, p in enumerate(parts)]


def _read(folder: Path) -> Run | None:
    try:
        run = Run(folder, read_config(folder), read_metrics(folder / "metrics.csv"))
        if run.epochs:
            return run
        console.warn(f"{folder} has no epoch yet: it is left out")
    except FileNotFoundError:
        console.warn(f"{folder} has no metrics.csv yet: it is left out")
    except (CheckpointError, OSError, ValueError) as error:
        console.warn(f"{error}: it is left out")
    return None


def group(runs: Sequence[Run]) -> list[Group]:
    """The runs by what differs beside their seed, in the order of the first of each."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        config = {key: value for key, value in run.config.items() if key != "seed"}
        together.setdefault(json.dumps(config, sort_keys=True), []).append(run)
    configs = [same[0].config for same in together.values()]
    every = dict.fromkeys(key for config in configs for key in config if key != "seed")
    differing = [key for key in every if any(_differ(key, configs[0], c) for c in configs[1:])]
    keys = [{key: config.get(key) for key in differing} for config in configs]
    labels = [_label(config, own, configs) for config, own in zip(configs, keys, strict=True)]
    groups = []
    for label, own, same in zip(labels, keys, together.values(), strict=True):
        place = f" ({same[0].folder.name})" if labels.count(label) > 1 else ""
        groups.append(Group(label + place, own, same))
    return groups


def _differ(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return json.dumps(one.get(key)) != json.dumps(other.get(key))


def _label(
    config: Mapping[str, Any], keys: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]
) -> str:
    if len({other.get("name") for other in configs}) == len(configs):
        # Experiments of their own: their many keys would hide the names.
        return str(config.get("name"))
    texts = [text_of(value) for value in keys.values()]
    short = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]
    shown = [f"{key}={text}" for key, text in zip(keys, short, strict=True)]
    return " ".join(shown[:SHOWN_KEYS]) + (" …" if len(shown) > SHOWN_KEYS else "")


def text_of(value: Any) -> str:
    """A value of a key as a reader writes it: 0.5, 2, (64,), conv as it is."""
    if isinstance(value, (list, tuple)):
        inside = ", ".join(text_of(v) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan


def _moments(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and std over seeds (n - 1 in the denominator), of the values that are numbers."""
    finite = [value for value in values if math.isfinite(value)]
    return {
        f"{name}_mean": float(np.mean(finite)) if finite else None,
        f"{name}_std": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
    }


def table(groups: Sequence[Group]) -> str:
    """Lines to print: a row for each group, and below what is to be known of them."""
    rows: list[tuple[str, ...]] = [("", "seeds", "epochs", "final, %", "best, %", "seconds")]
    for one in groups:
        found = one.statistics()
        first, last = found["first_epochs"], found["last_epochs"]
        epochs = f"{first}" if first == last else f"{first}-{last}"
        if not all(run.finished for run in one.counted):
            epochs += f" of {one.runs[0].config.get('epochs')}"
        percent = [_percent(found, f"{kind}_test_acc") for kind in ("final", "best")]
        rows.append((one.label, str(found["seeds"]), epochs, *percent, f"{found['seconds']:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_notes(groups)])


def _percent(found: Mapping[str, Any], name: str) -> str:
    mean, std = found[f"{name}_mean"], found[f"{name}_std"]
    if mean is None:
        return "-"
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def _notes(groups: Sequence[Group]) -> list[str]:
    notes = [
        "test accuracy after the last and the best epoch: mean ± std over seeds; seconds: mean"
    ]
    differing = list(groups[0].keys)
    if differing and not all(f"{key}=" in groups[0].label for key in differing):
        notes.append(f"they differ in {', '.join(differing)}")
    for one in groups:
        left_out = [run for run in one.runs if not run.finished]
        used = "" if one.counted == one.runs else ", in the picture alone"
        for run in left_out:
            epochs = f"epoch {run.epochs} of {run.config.get('epochs')}"
            notes.append(f"unfinished: {run.folder}, {epochs}{used}")
    return notes


def write_table(groups: Sequence[Group], path: StrPath) -> None:
    """Writes the statistics as CSV: a row for each group, its keys first; shares, not percent."""
    text = io.StringIO()
    rows = [{"label": one.label, **one.keys, **one.statistics()} for one in groups]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        texts = {k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()}
        writer.writerow(texts)
    write_atomically(path, text.getvalue())
