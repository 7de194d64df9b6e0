"""Rows of a part: each is measured in a process of its own, one at a time, and kept at once.

A process that ends gives the device's memory back, so that one row cannot make the next one fail; a
row that fails, or takes too long, is told in one line and costs the others nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

from benchmarks.shared.results import Options, Result
from jaxep.run.errors import reason

# XLA would else take most of the device at its start, of which other processes want some.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
ON_CPU = {**ENVIRONMENT, "JAX_PLATFORMS": "cpu"}
# A row may take this long where its part has less.
LEAST_SECONDS = 60.0


class Clock(NamedTuple):
    """The minutes of a command.

    Attributes:
        seconds: in all.
        began: when, of `now`.
        now: seconds of a clock that never goes back.
    """

    seconds: float
    began: float
    now: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.left_of(1.0)

    def left_of(self, share: float) -> float:
        """Seconds until a share of all is spent; negative after it."""
        return self.began + share * self.seconds - self.now()

    def tell(self, text: str) -> None:
        """Prints a line of progress, and what is left of the minutes."""
        minutes, seconds = divmod(max(0, round(self.left)), 60)
        print(f"[{minutes}:{seconds:02d} left] {text}", flush=True)


class Row(NamedTuple):
    """What measures a row.

    Attributes:
        function: of a module; what it returns are JSON values by name.
        arguments: of the function.
        environment: variables of its process, beside those of this one.
    """

    function: Callable[..., Result]
    arguments: tuple = ()
    environment: Mapping[str, str] = ENVIRONMENT


def bounded(seconds: float, row: Row) -> Any:
    """What a row's function returns, in a fresh process.

    Raises:
        RuntimeError: it failed, in one line; it took longer than `seconds`, and was killed.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, row.function, row.arguments))
    with _variables(row.environment):
        process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise RuntimeError(f"not done in {seconds:.0f} s")
        answer, problem = here.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"its process ended with exit status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if problem:
        raise RuntimeError(problem)
    return answer


def _answer(connection: Any, function: Callable[..., Any], arguments: tuple) -> None:
    """In the process of a row: its result, or the one line of what it raised."""
    try:
        connection.send((function(*arguments), ""))
    except (Exception, SystemExit) as error:
        connection.send((None, f"{type(error).__name__}: {reason(error)}"))


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes that are started within; JAX reads them when it is imported."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def fill(options: Options, clock: Clock, share: float, rows: Mapping[str, Row]) -> None:
    """Measures the rows that are missing or failed before, and writes the result after each.

    Args:
        options: of the part's result.
        clock: of the command.
        share: of all seconds, after which no row of this part begins.
        rows: by name, the most wanted first.
    """
    found, todo, most = kept(options), missing(options, rows), longest(clock, share)
    for number, name in enumerate(todo):
        if clock.left_of(share) <= 0:
            clock.tell(f"{options.name}: no time for {'; '.join(todo[number:])}: call again")
            return
        clock.tell(f"{options.name}: {name}")
        try:
            found[name] = bounded(min(most, max(1.0, clock.left)), rows[name])
        except RuntimeError as error:
            found[name] = {"error": str(error)}
            clock.tell(f"{options.name}: {name}: {error}")
        found[name]["git_commit"] = options.origin()["git_commit"]
        options.keep({"rows": found}, finished=all(row in found for row in rows))


def longest(clock: Clock, share: float) -> float:
    """Seconds that one row of a part may take."""
    return max(LEAST_SECONDS, clock.left_of(share))


def kept(options: Options) -> dict[str, Result]:
    """The rows that an earlier command has written, by name."""
    return options.kept("rows").get("rows", {})


def missing(options: Options, rows: Iterable[str]) -> list[str]:
    """Names of the rows that are not there, or failed."""
    found = kept(options)
    return [name for name in rows if "error" in found.get(name, {"error": ""})]


def measured(result: Result) -> dict[str, Result]:
    """The rows of a result that did not fail."""
    return {name: row for name, row in result["rows"].items() if "error" not in row}


def failures(result: Result) -> list[str]:
    """A line for each row that failed."""
    rows = result["rows"].items()
    return [f"{name}: {row['error']}" for name, row in rows if "error" in row]
