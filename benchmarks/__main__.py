"""Measures what the paper shows and how fast this is: python -m benchmarks NAME [options].

Each benchmark writes results/NAME.json and NAME.png (NAME_SCALE where a scale is given that is not
`small`); `report` tells all of them on one page. python -m benchmarks NAME --help says more.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.shared import results
from jaxep.process import prepare_jax


def parse(given: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in report.BENCHMARKS.items():
        command = commands.add_parser(name, help=benchmark.title, description=benchmark.title)
        if benchmark.scaled:
            command.add_argument("--scale", choices=results.SCALES, default="small")
        for key, default in getattr(benchmark.module, "ARGUMENTS", {}).items():
            _add(command, key, default)
        command.add_argument("--runs", type=Path, default=results.Options.runs, help="of workdirs")
        command.add_argument("--results", type=Path, default=results.RESULTS, help="of JSON, PNG")
    told = commands.add_parser("report", help="writes results/README.md from all results")
    told.add_argument("--results", type=Path, default=results.RESULTS, help="of JSON, PNG")
    told.add_argument("--draw", action="store_true", help="every picture again, from its JSON")
    return parser.parse_args(given)


def _add(command: argparse.ArgumentParser, key: str, default: Any) -> None:
    """One argument of a benchmark: names to choose from (all by default), a type, or an option."""

    def name(text: str) -> str:
        if text not in default:
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r}, of {', '.join(default)}")
        return text

    if isinstance(default, tuple):
        told = f"default: all of {'; '.join(default)}"
        command.add_argument(key, nargs="*", type=name, default=list(default), help=told)
    elif isinstance(default, type):
        command.add_argument(key, type=default)
    else:
        command.add_argument(key, type=type(default), default=default)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes JSON and PNG and prints the table; or writes the report."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    read = parse(given)
    if read.name == "report":
        report.write(read.results, read.draw)
        return
    prepare_jax()
    benchmark, scale = report.BENCHMARKS[read.name], getattr(read, "scale", "small")
    command = f"python -m benchmarks {shlex.join(given)}"
    options = results.Options(read.name, scale, read.results, read.runs.absolute(), read, command)
    result = options.keep(benchmark.measure(options))
    benchmark.draw(result, options.results / f"{options.stem}.png")
    print(benchmark.module.table(result))


if __name__ == "__main__":
    main()
