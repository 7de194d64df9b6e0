"""All results on one page: tables, pictures, and what is claimed beside what was measured.

Reads every JSON of a folder and writes README.md beside them. Every number comes from a JSON.
"""

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.shared import runs, show
from benchmarks.shared.results import Claim, Options, Result, write_picture
from jaxep.run.files import write_atomically


class Benchmark(NamedTuple):
    """One benchmark: `python -m benchmarks NAME` measures, and the report tells.

    Attributes:
        title: of its section.
        place: of its module, which has `table` (result -> Markdown), `measure` (Options -> result)
            or `specs` (scale -> runs to train), and where there is any of it `claims` (result ->
            Claims), `draw` (result -> figure) and `ARGUMENTS` (its own, with defaults).
        scaled: whether it takes --scale.
    """

    title: str
    place: str
    scaled: bool = False

    @property
    def module(self) -> Any:
        """Imported where it is needed."""
        return importlib.import_module(f"benchmarks.{self.place}")

    def measure(self, options: Options) -> Result:
        """Measures, or trains what it specifies."""
        if hasattr(self.module, "measure"):
            return self.module.measure(options)
        return {"runs": runs.train_all(options, self.module.specs(options.scale))}

    def claims(self, result: Result) -> list[Claim]:
        """What is claimed beside what was measured."""
        return list(getattr(self.module, "claims", lambda result: ())(result))

    def draw(self, result: Result, path: Path) -> None:
        """Writes its picture, if it has one."""
        if hasattr(self.module, "draw"):
            write_picture(self.module.draw(result), path)


# In the order of the page: that of the paper, then the rest.
BENCHMARKS = {
    "depth": Benchmark("Fig. 1: depth", "paper.depth", True),
    "convergence": Benchmark("Fig. 3: convergence of the phases", "paper.convergence", True),
    "curves": Benchmark("Fig. 4: learning curves of LE and KD", "paper.curves", True),
    "vanishing": Benchmark("Fig. 5: vanishing gradients", "paper.vanishing", True),
    "schedules": Benchmark("Fig. 6: schedules of κ", "paper.schedules", True),
    "gradients": Benchmark("Eq. 6 and Theorem 3.2: gradients", "paper.gradients", True),
    "contraction": Benchmark("Theorem 3.1: contraction", "paper.contraction", True),
    "table1": Benchmark("Table 1: accuracies", "paper.tables", True),
    "table3": Benchmark("Table 3: KD with and without a learned map", "paper.tables", True),
    "core": Benchmark("First runs", "paper.core"),
    "cifar10": Benchmark("All of CIFAR-10", "paper.cifar10"),
    "feedback": Benchmark("Weak feedback", "paper.feedback", True),
    "systems": Benchmark("Systems of the literature on digits", "paper.systems"),
    "distillation": Benchmark("Distillation in a deep net", "paper.distillation"),
    "stencils": Benchmark("Points in β: real and complex", "paper.stencils", True),
    "step_time": Benchmark("Time of a step", "speed.step_time"),
    "backprop_ratio": Benchmark("A training step over backprop's", "speed.backprop_ratio"),
    "time_to_accuracy": Benchmark("Seconds to an accuracy", "speed.time_to_accuracy"),
    "graphs": Benchmark("Sweeps over a graph", "speed.graphs"),
    "solvers": Benchmark("Which solver gives the gradient soonest", "speed.solvers"),
    "dynamics": Benchmark("What faster phases train", "paper.dynamics", True),
    "lowerings": Benchmark("Lowerings of a convolution", "speed.lowerings"),
    "precision": Benchmark("Less than float32", "speed.precision"),
    "memory": Benchmark("Table 2: memory", "speed.memory"),
    "scaling": Benchmark("Many devices", "speed.scaling"),
    "digits_search": Benchmark("Search for settings of the digits nets", "paper.digits_search"),
}
WORDS = {True: "yes", False: "**no**", None: ""}


def training_seconds(result: Any) -> float:
    """Of all runs in a result, however deep they lie; a row may tell them by its seeds."""
    if isinstance(result, dict):
        if "training_seconds" in result:
            return float(np.sum(result["training_seconds"]))
        result = list(result.values())
    return sum(map(training_seconds, result)) if isinstance(result, list) else 0.0


def origin(result: Result) -> str:
    """Device, versions, commit, and seconds where they are told."""
    device = result.get("device", {})
    parts = [f"{device.get('count', '?')} × {device.get('kind') or device.get('platform', '?')}"]
    parts += [f"JAX {result['versions']['jax']}"] if "versions" in result else []
    if result.get("git_commit"):
        dirty = " with changes" if result.get("git_dirty") else ""
        parts.append(f"commit {result['git_commit'][:10]}{dirty}")
    if "seconds" in result:
        trained = training_seconds(result)
        parts.append(f"{result['seconds']:.0f} s")
        parts += [f"{trained:.0f} s of training behind its rows"] if trained else []
    return ", ".join(parts)


def scale_of(stem: str) -> tuple[str, str]:
    """A file's stem as (benchmark, scale): "depth_paper" -> ("depth", "paper")."""
    for scale in ("paper", "tiny"):
        if stem.endswith(f"_{scale}"):
            return stem.removesuffix(f"_{scale}"), scale
    return stem, "small"


def section(stem: str, result: Result, pictures: set[str]) -> str:
    """One result as Markdown; of one that no benchmark is known for, its picture and origin."""
    name, scale = scale_of(stem)
    known = BENCHMARKS.get(name)
    title = known.title if known else name.replace("_", " ")
    title += f" ({scale} scale)" if scale != "small" else ""
    source = f"[{stem}.json]({stem}.json)"
    parts = [f"## {title}"]
    if not result.get("finished", True):
        parts.append("The command was cut off: rows are missing.")
        return "\n\n".join([*parts, f"{source}: {origin(result)}."])
    if f"{stem}.png" in pictures:
        parts.append(f"![{title}]({stem}.png)")
    if known:
        rows = [(*claim[:3], WORDS[claim.holds]) for claim in known.claims(result)]
        header = ["claim", "the paper, or the aim", "here", "holds"]
        parts += [show.markdown(header, rows)] if rows else []
        parts.append(known.module.table(result))
        chosen = f" --scale {scale}" if known.scaled else ""
        source = f"`python -m benchmarks {name}{chosen}` · {source}"
    return "\n\n".join([*parts, f"{source} · {origin(result)}"])


def page(results: dict[str, Result], pictures: set[str]) -> str:
    """The whole page: known benchmarks in their order, the others, what is missing."""
    order = list(BENCHMARKS)
    stems = sorted(
        (stem for stem in results if scale_of(stem)[1] != "tiny"),
        key=lambda s: (order.index(n) if (n := scale_of(s)[0]) in order else len(order), s),
    )
    texts = [section(stem, results[stem], pictures) for stem in stems]
    missing = [name for name in BENCHMARKS if name not in {scale_of(stem)[0] for stem in results}]
    head = (
        "# Results\n\nWritten by `python -m benchmarks report` from the JSON files beside this "
        "page; every number is one of theirs. Small scale unless a title says otherwise. A claim "
        "without a word in its last column is told, and not judged."
    )
    if missing:
        texts.append(f"## Not measured yet\n\n{', '.join(missing)}.")
    return "\n\n".join([head, *texts]) + "\n"


def write(folder: Path, draw: bool = False) -> None:
    """Writes the page of a folder of results; with `draw` every picture again, from its JSON."""
    results: dict[str, Result] = {
        path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))
    }
    for stem, result in results.items() if draw else ():
        known = BENCHMARKS.get(scale_of(stem)[0])
        if known and result.get("finished", True):
            known.draw(result, folder / f"{stem}.png")
    text = page(results, {path.name for path in folder.glob("*.png")})
    write_atomically(folder / "README.md", text)
    print(f"{folder / 'README.md'}: {len(results)} results")
