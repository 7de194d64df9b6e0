"""python -m benchmarks.accelerator --minutes N [--out DIR] [--peer DIR] [--config.KEY=VALUE ...]

measures, in about N minutes, on the GPU or TPU of this machine (or its CPU where it has neither):
states and gradients against float64 on the CPU, in each lowering and precision; times of a step and
of a training step, beside PyTorch and the public code where they are there; peak memory of the rows
of Table 2; and spends the rest on training VGG-7-LE, then VGG-5 as a predictive coding net, at the
paper's width. It needs pip install -e . in a checkout. What is measured is kept after each row: the
same command again goes on where the minutes ended. Of several GPUs CUDA_VISIBLE_DEVICES=0 is one.
"""

import argparse
import functools
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax

from benchmarks.device import agreement, times, training
from benchmarks.device.rows import ENVIRONMENT, Clock, Row, bounded, failures, fill, measured
from benchmarks.shared import results
from benchmarks.speed import memory
from jaxep.process import end
from jaxep.run.errors import SettingsError, UserError
from jaxep.run.files import write_atomically
from jaxep.run.provenance import provenance

PROBE_SECONDS = 120.0
# At tiny scale a row of each kind.
MEMORY_ROWS = {"paper": (128, memory.ROWS), "tiny": (8, {("digits", "LE"): ()})}


class Part(NamedTuple):
    """One part of the command.

    Attributes:
        title: of its section.
        share: of all minutes, after which no row of it begins.
        measure: (options, clock, share) -> writes the result.
        table: result -> Markdown.
    """

    title: str
    share: float
    measure: Callable[..., None]
    table: Callable[[results.Result], str]


def measure_memory(options: results.Options, clock: Clock, share: float) -> None:
    """The rows of `benchmarks memory`."""
    batch, rows = MEMORY_ROWS[options.scale]
    every = {
        f"{size}, {method}": Row(memory.measure_row, ((size, method), batch))
        for size, method in rows
    }
    fill(options, clock, share, every)


def memory_table(result: results.Result) -> str:
    """As that of `benchmarks memory`."""
    return memory.table({"rows": list(measured(result).values())})


def parts_of(peer: str, platform: str, given: Sequence[str]) -> dict[str, Part]:
    """All parts in their order, by name."""
    timed = functools.partial(times.measure, peer=peer, platform=platform)
    trained = functools.partial(training.measure, given=given)
    agreed = "States and gradients against float64"
    return {
        "agreement": Part(agreed, 0.25, agreement.measure, agreement.table),
        "times": Part("Times", 0.5, timed, times.table),
        "memory": Part("Memory of a training step", 0.65, measure_memory, memory_table),
        "training": Part("Training", 1.0, trained, training.table),
    }


class _Parser(argparse.ArgumentParser):
    """Refuses words in one line."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} (--help tells all)")


def read(given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and those of its words that are settings."""
    parser = _Parser(
        "python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=_minutes, required=True, help="in all, over 0")
    parser.add_argument("--out", type=Path, help="default: runs/accelerator/KIND OF DEVICE")
    parser.add_argument("--peer", default="", help="a checkout of Equilibrium-Propagation")
    every = list(parts_of("", "", ()))
    parser.add_argument("--parts", nargs="+", choices=every, default=every)
    parser.add_argument("--again", action="store_true", help="measures what is there already")
    parser.add_argument("--scale", choices=tuple(MEMORY_ROWS), default="paper")
    settings = [word for word in given if re.match(r"--?(no)?config\.", word)]
    return parser.parse_args([word for word in given if word not in settings]), settings


def _minutes(text: str) -> float:
    """A positive number."""
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: must be a number over 0")


def slug(kind: str) -> str:
    """The name of a device as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")


def check_device(options: results.Options, origin: results.Result) -> None:
    """Refuses to go on with the result of another device.

    Raises:
        SettingsError: it is one.
    """
    here = origin["device"]
    there = options.kept("device").get("device") or here
    if there["kind"] != here["kind"]:
        raise SettingsError(
            f"--out {options.results}: holds {options.stem} of {there['kind']}, this is "
            f"{here['kind']}; choose another folder"
        )


def run(options: results.Options, clock: Clock, part: Part) -> None:
    """Measures a part, which costs the others nothing where it fails."""
    try:
        part.measure(options, clock, part.share)
    except (RuntimeError, OSError) as error:
        clock.tell(f"{options.name}: {error}")
        rows = options.kept("rows").get("rows", {})
        options.keep({"rows": rows, "error": str(error)}, finished=False)


def page(folder: Path, scale: str, parts: dict[str, Part]) -> str:
    """What the folder holds, as Markdown."""
    texts, origin = [], ""
    for name, part in parts.items():
        path = results.Options(name, scale, folder).path
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        device, versions = result["device"], result["versions"]
        origin = f"{device['count']} × {device['kind']}, JAX {versions['jax']}"
        lines = [f"## {part.title}", part.table(result)]
        lines += [f"- {line}" for line in failures(result)]
        lines += [f"Stopped: {result['error']}."] if "error" in result else []
        lines += [] if result.get("finished", True) else ["Not all is measured yet."]
        texts.append("\n\n".join([*lines, f"[{path.name}]({path.name})"]))
    return "\n\n".join([f"# On {origin}", *texts]) + "\n"


def prepare(
    options: argparse.Namespace, settings: Sequence[str], command: str
) -> tuple[dict[str, results.Options], dict[str, Part]]:
    """Finds the device; the results and the parts by name, all that can be refused is.

    Raises:
        UserError: a word, data or a folder is not what it must be.
        RuntimeError: JAX does not start.
    """
    if "training" in options.parts:
        training.check_words(options.scale, settings)
    origin = bounded(PROBE_SECONDS, Row(provenance, (), ENVIRONMENT))
    device = origin["device"]
    folder = options.out or results.ROOT / "runs/accelerator" / slug(device["kind"])
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"scale": options.scale, "results": folder, "command": command}
    every = {name: results.Options(name, origin=lambda: origin, **shared) for name in options.parts}
    for own in every.values():
        check_device(own, origin)
    if "training" in every:
        training.check(every["training"], settings)
    for name in every if options.again else ():
        every[name].path.unlink(missing_ok=True)
    print(f"{device['count']} × {device['kind']}, results in {folder}", flush=True)
    return every, parts_of(options.peer, device["platform"], settings)


def main(given: Sequence[str] | None = None) -> None:
    """Checks the words, finds the device, measures part by part, writes the page after each."""
    words, began = list(sys.argv[1:] if given is None else given), time.monotonic()
    # This process computes nothing, and must not hold the device that its rows measure.
    jax.config.update("jax_platforms", "cpu")
    signal.signal(
        signal.SIGTERM, lambda *_: end("SIGTERM: stopped, what was measured is kept", 143)
    )
    try:
        options, settings = read(words)
        clock = Clock(60 * options.minutes, began)
        command = f"python -m benchmarks.accelerator {shlex.join(words)}"
        every, parts = prepare(options, settings, command)
        for name, own in every.items():
            run(own, clock, parts[name])
            text = page(own.results, options.scale, parts)
            write_atomically(own.results / "README.md", text)
        print(text)
    except (UserError, RuntimeError, OSError) as error:
        end(error)
    except KeyboardInterrupt:
        end("SIGINT: stopped, what was measured is kept", 130)


if __name__ == "__main__":
    main()
