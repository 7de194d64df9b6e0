"""What a benchmark claims, its command line, and the one place that writes what it found."""

import argparse
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxep.run.files import write_atomically
from jaxep.run.provenance import provenance

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
SCALES = ("small", "paper", "tiny")
DPI = 130
Result = dict[str, Any]


class Claim(NamedTuple):
    """One row of what a result shows.

    Attributes:
        statement: what is claimed, in words.
        paper: what the paper says of it, or what is aimed at.
        here: what was measured, in numbers of the result.
        holds: whether the claim holds here, as computed from the result; None: told, not judged.
    """

    statement: str
    paper: str
    here: str
    holds: bool | None = None


Claims = Iterator[Claim]


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line of a benchmark.

    Attributes:
        name: of the benchmark.
        scale: tiny (of the tests: says nothing), small (two CPU cores) or paper (a GPU).
        results: where NAME.json and NAME.png go.
        runs: where the training runs' work directories lie.
        own: the benchmark's own arguments.
        command: as it was typed.
        began: when the command started, of `time.perf_counter`.
        origin: where its numbers come from, as JSON values.
    """

    name: str
    scale: str = "small"
    results: Path = RESULTS
    runs: Path = ROOT / "runs/benchmarks"
    own: argparse.Namespace = dataclasses.field(default_factory=argparse.Namespace)
    command: str = ""
    began: float = dataclasses.field(default_factory=time.perf_counter)
    origin: Callable[[], Result] = provenance

    @property
    def stem(self) -> str:
        """Name of the result's files: NAME, or NAME_SCALE where the scale is not `small`."""
        return self.name if self.scale == "small" else f"{self.name}_{self.scale}"

    @property
    def path(self) -> Path:
        """Of the JSON."""
        return self.results / f"{self.stem}.json"

    def keep(self, result: Result, finished: bool = True) -> Result:
        """Writes the result with its origin, and returns what was written.

        Args:
            result: of JSON values; nan and infinity, which JSON does not know, become None.
            finished: rows are missing where it is not, and the report says so.
        """
        told: Result = {"command": self.command, "scale": self.scale}
        told["seconds"] = round(time.perf_counter() - self.began, 3)
        told |= {} if finished else {"finished": False}
        whole = plain({**told, **result, **self.origin()})
        text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
        self.results.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, text)
        return whole

    def kept(self, *keys: str) -> Result:
        """Of what an earlier command left, the given keys; {} where there is nothing."""
        found = json.loads(self.path.read_text()) if self.path.exists() else {}
        return {key: found[key] for key in keys if key in found}

    def each(self, chosen: Iterable[str], every: Iterable[str], of: Callable[[str], Any]) -> Result:
        """Measures rows one by one and writes each, so that none is lost.

        Args:
            chosen: names of the rows to measure.
            every: names of all rows: what an earlier command left of the others stays.
            of: measures the row of a name.
        """
        result = self.kept(*every)
        for name in chosen:
            result[name] = of(name)
            self.keep(result)
        return result


def plain(value: Any) -> Any:
    """The value as JSON has it: lists for arrays, None for every nan and infinity."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_picture(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, in one step."""
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=DPI)
    write_atomically(path, png.getvalue())
