"""Processes side by side: so many at a time, each on its share of the cores."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jaxep.process import Signals

# Seconds between looks at the processes; a run takes many.
PATIENCE = 0.1
# Of a GPU's memory, for all processes: JAX takes three quarters of it for the first one otherwise.
MEMORY = 0.9


class Job(NamedTuple):
    """A process to be run.

    Attributes:
        name: for what is said of it.
        command: its words, the program first.
        log: its stdout goes to `log`.out and its stderr to `log`.err, after what is there.
    """

    name: str
    command: list[str]
    log: Path

    def file(self, stream: str) -> Path:
        """The file of `out` or `err`."""
        return self.log.with_name(f"{self.log.name}.{stream}")

    def last_words(self) -> str:
        """The last line on its stderr that is not empty, or nothing."""
        with suppress(OSError):
            lines = self.file("err").read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


class Event(NamedTuple):
    """A job begins (`status` None), or has ended; its status is negative where a signal did it."""

    job: Job
    status: int | None = None
    seconds: float = 0.0


def shares(cores: Sequence[int], jobs: int) -> list[set[int]]:
    """The cores of each of several jobs, as many for each; more jobs than cores share them.

    As many, because each core is a device of a run, and the sums over devices are rounded by their
    number: a run must not depend on its neighbours. A remainder of cores stays idle.
    """
    each = max(len(cores) // jobs, 1)
    return [{cores[(job * each + k) % len(cores)] for k in range(each)} for job in range(jobs)]


def environment(jobs: int, cores: int, given: Mapping[str, str]) -> dict[str, str]:
    """What a job is told of its share, where the user's environment does not say it already.

    A job sees its cores by its affinity; where there is none (macOS) it is told their number.
    """
    told = {}
    if jobs > 1:
        told["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{MEMORY / jobs:.3f}"
        if not hasattr(os, "sched_getaffinity"):
            told["JAX_NUM_CPU_DEVICES"] = str(max(cores // jobs, 1))
    return {**told, **given}


def run_all(
    jobs: Sequence[Job], at_once: int, stop: Signals, first_alone: bool = False
) -> Iterator[Event]:
    """Runs jobs in their order, `at_once` at a time, and tells when one begins and ends.

    Args:
        jobs: processes; one that fails ends no other.
        at_once: how many at a time.
        stop: once it has noted a signal, this goes to the jobs that run, and no other begins; they
            are waited for.
        first_alone: whether the first must end before a second begins.
    """
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    cores = sorted(affinity(0))
    free = shares(cores, at_once)
    variables = environment(at_once, len(cores), os.environ)
    waiting, running, told = list(jobs), list[_Running](), False
    try:
        while running or (waiting and not stop()):
            alone = first_alone and any(one.job is jobs[0] for one in running)
            if waiting and free and not alone and not stop():
                job = waiting.pop(0)
                running.append(_start(job, free.pop(0), cores, variables))
                yield Event(job)
                continue
            if stop() and not told:
                told = True
                for one in running:
                    one.process.send_signal(stop.noted or signal.SIGTERM)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                free.append(one.cores)
                yield Event(one.job, one.process.returncode, time.monotonic() - one.began)
            time.sleep(PATIENCE)
    finally:
        for one in running:  # an error here: no process is left behind
            one.process.terminate()
            one.process.wait()


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    cores: set[int]
    began: float


def _start(job: Job, own: set[int], cores: Sequence[int], variables: Mapping[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    affine = hasattr(os, "sched_setaffinity")
    if affine:
        os.sched_setaffinity(0, own)  # of this thread, for the process to inherit
    try:
        with open(job.file("out"), "ab") as out, open(job.file("err"), "ab") as err:
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables
            )
    finally:
        if affine:
            os.sched_setaffinity(0, cores)
    return _Running(job, process, own, time.monotonic())
