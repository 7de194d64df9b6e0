"""All results on one page: python -m benchmarks.report

Reads every JSON in benchmarks/results/ and writes README.md beside them: tables, pictures, what
each shows and where it differs from the paper. Every number comes from a JSON.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import (
    contraction_report,
    convergence_report,
    core,
    curves,
    depth,
    dynamics,
    gradients_report,
    lowerings,
    memory,
    precision,
    provenance,
    scaling,
    schedules,
    solvers_report,
    step_time_report,
    tables,
    vanishing_report,
)
from jaxep.run.reporting import write_atomically

Result = dict[str, Any]


class Section(NamedTuple):
    """How a result is told: a title, and functions of the JSON for table and sentences."""

    title: str
    table: Callable[[Result], str] = lambda result: ""
    says: Callable[[Result], str] = lambda result: ""
    differs: Callable[[Result], str] = lambda result: ""


def _of_module(title: str, module: Any) -> Section:
    return Section(title, module.table, module.says, module.differs)


def _core_says(result: Result) -> str:
    runs = result["runs"]
    best = {name: 100 * run["final_test_accuracy"] for name, run in runs.items()}
    pairs = [
        f"{name.removesuffix('_le')}: {best[name]:.1f} % with local errors, "
        f"{best[name.replace('_le', '_std')]:.1f} % without"
        for name in best
        if name.endswith("_le") and name.replace("_le", "_std") in best
    ]
    return "; ".join(pairs) + "." if pairs else ""


def _step_time_says(result: Result) -> str:
    sentences = []
    for net in (net for net in step_time_report.NETS if net in result):
        step, learn = result[net]["step_ms"], result[net]["training_step_ms"]
        ratios = [f"{step[n] / step['jaxep']:.2f} ({n})" for n in step if n != "jaxep"]
        whole = [f"{learn[n] / learn['jaxep']:.1f} ({n})" for n in learn if n != "jaxep"]
        sentences.append(
            f"{net}: the others' time over jaxep's is {', '.join(ratios)} for one step and "
            f"{', '.join(whole)} for a training step."
        )
    return " ".join(sentences)


def _solvers_table(result: Result) -> str:
    return solvers_report.table({name: v for name, v in result.items() if isinstance(v, list)})


def _search_says(result: Result) -> str:
    tried = result["candidates"]
    configs: dict[str, list[float]] = {}
    for row in tried:
        configs.setdefault(row["config"], []).append(row["final"])
    best = [
        f"{name}: {len(found)} candidates, best {100 * max(found):.1f} %"
        for name, found in sorted(configs.items())
    ]
    return f"{len(tried)} candidates on the validation split. " + "; ".join(best) + "."


SECTIONS = {
    "depth": _of_module("Fig. 1: depth", depth),
    "convergence": _of_module("Fig. 3: convergence of the phases", convergence_report),
    "curves": _of_module("Fig. 4: learning curves of LE and KD", curves),
    "vanishing": _of_module("Fig. 5: vanishing gradients", vanishing_report),
    "schedules": _of_module("Fig. 6: schedules of κ", schedules),
    "gradients": _of_module("Eq. 6 and Theorem 3.2: gradients", gradients_report),
    "contraction": _of_module("Theorem 3.1: contraction", contraction_report),
    "table1": _of_module("Table 1: accuracies", tables),
    "table3": _of_module("Table 3: distillation with and without a learned map", tables),
    "core": Section("First runs", lambda result: core.table(result["runs"]), _core_says),
    "step_time": Section("Time of a step", step_time_report.table, _step_time_says),
    "solvers": Section("Which solver gives the gradient soonest", _solvers_table),
    "dynamics": Section("What faster phases train", dynamics.table, dynamics.says),
    "lowerings": Section("Lowerings of a convolution", lowerings.table),
    "precision": Section("Less than float32", precision.table),
    "memory": Section("Table 2: memory", lambda result: memory.table(result["rows"])),
    "scaling": Section("Many devices", scaling.table),
    "digits_search": Section("Search for the settings of the digits nets", says=_search_says),
}


def origin(result: Result) -> str:
    """Device, versions, commit, and seconds where they are told."""
    device = result.get("device", {})
    parts = [f"{device.get('count', '?')} × {device.get('kind') or device.get('platform', '?')}"]
    parts += [f"JAX {result['versions']['jax']}"] if "versions" in result else []
    if result.get("git_commit"):
        dirty = " with changes" if result.get("git_dirty") else ""
        parts.append(f"commit {result['git_commit'][:10]}{dirty}")
    if "seconds" in result:
        trained = [row.get("training_seconds", 0) for row in result.get("runs", {}).values()]
        parts.append(f"{result['seconds']:.0f} s")
        if sum(trained):
            parts.append(f"{sum(trained):.0f} s of training behind its rows")
    return ", ".join(parts)


def scale_of(stem: str) -> tuple[str, str]:
    """A file's stem as (benchmark, scale): "depth_paper" -> ("depth", "paper")."""
    for scale in ("paper", "tiny"):
        if stem.endswith(f"_{scale}"):
            return stem.removesuffix(f"_{scale}"), scale
    return stem, "small"


def section(stem: str, result: Result, pictures: set[str]) -> str:
    """One result as Markdown; one that no section is known for is shown by its picture."""
    name, scale = scale_of(stem)
    known = SECTIONS.get(name, Section(name.replace("_", " ")))
    title = known.title + (f" ({scale} scale)" if scale != "small" else "")
    parts = [f"## {title}"]
    if not result.get("finished", True):
        parts.append("The command was cut off: rows are missing.")
        return "\n\n".join([*parts, f"[{stem}.json]({stem}.json): {origin(result)}."])
    if f"{stem}.png" in pictures:
        parts.append(f"![{title}]({stem}.png)")
    parts += [text for text in (known.says(result), known.table(result)) if text]
    if differs := known.differs(result):
        parts.append(f"**Beside the paper:** {differs}")
    command = result.get("command", f"python -m benchmarks.{name}")
    parts.append(f"`{command}` · [{stem}.json]({stem}.json) · {origin(result)}")
    return "\n\n".join(parts)


def page(results: dict[str, Result], pictures: set[str]) -> str:
    """The whole page: known benchmarks in the paper's order, the others, what is missing."""
    order = list(SECTIONS)
    stems = sorted(
        (stem for stem in results if scale_of(stem)[1] != "tiny"),
        key=lambda s: (order.index(n) if (n := scale_of(s)[0]) in order else len(order), s),
    )
    texts = [section(stem, results[stem], pictures) for stem in stems]
    missing = [name for name in SECTIONS if name not in {scale_of(stem)[0] for stem in results}]
    head = (
        "# Results\n\nWritten by `python -m benchmarks.report` from the JSON files beside this "
        "page; every number is one of theirs. Small scale unless a title says otherwise."
    )
    if missing:
        texts.append(f"## Not measured yet\n\n{', '.join(missing)}.")
    return "\n\n".join([head, *texts]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=provenance.RESULTS, help="JSON and PNG")
    folder = parser.parse_args(arguments).results
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    text = page(results, {path.name for path in folder.glob("*.png")})
    write_atomically(folder / "README.md", text)
    print(f"{folder / 'README.md'}: {len(results)} results")


if __name__ == "__main__":
    main()
