"""Processes side by side: how many at a time, on which cores, and how they are stopped."""

import itertools
import os
import signal
import sys
import time

import pytest

from jaxep.commands.jobs import Job, environment, run_all, shares


class Stop:
    """In the place of `process.Signals`: noted by the test."""

    noted = None

    def __call__(self):
        return self.noted is not None


def job(folder, name, program):
    return Job(name, [sys.executable, "-c", program], folder / "logs" / name)


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"),
    [
        ([0, 1, 2, 3], 1, [{0, 1, 2, 3}]),
        ([0, 1, 2, 3], 2, [{0, 1}, {2, 3}]),
        ([4, 5, 6, 7, 8], 2, [{4, 5}, {6, 7}]),
        ([3, 7], 3, [{3}, {7}, {3}]),
    ],
)
def test_every_job_has_as_many_cores(cores, jobs, expected):
    assert shares(cores, jobs) == expected


def test_a_job_alone_is_told_nothing_and_the_users_word_comes_first():
    assert environment(1, 8, {"A": "1"}) == {"A": "1"}
    assert environment(3, 8, {})["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.300"
    given = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    assert environment(3, 8, given) == given


@pytest.mark.parametrize(
    ("at_once", "alone", "first"),
    [
        (1, False, [1, 0, 1, 0, 1, 0]),
        (2, False, [1, 2]),
        (2, True, [1, 0, 1, 2]),
        (9, False, [1, 2, 3]),
    ],
)
def test_so_many_run_at_a_time_in_their_order(tmp_path, at_once, alone, first):
    """`first`: how many run, after each of the first events."""
    jobs = [job(tmp_path, name, "import time; time.sleep(0.3)") for name in "abc"]
    events = list(run_all(jobs, at_once, Stop(), first_alone=alone))
    changes = [1 if event.status is None else -1 for event in events]
    running = list(itertools.accumulate(changes))
    assert running[: len(first)] == first and max(running) == min(at_once, 3)
    assert [event.job.name for event in events if event.status is None] == ["a", "b", "c"]
    assert sum(event.status == 0 for event in events) == 3


def test_a_failure_ends_no_other_and_its_last_words_are_known(tmp_path):
    program = "import sys; print('error: bad', '', sep='\\n', file=sys.stderr); sys.exit(3)"
    jobs = [job(tmp_path, "bad", program), job(tmp_path, "good", "print(1)")]
    ends = {e.job.name: e.status for e in run_all(jobs, 1, Stop()) if e.status is not None}
    assert ends == {"bad": 3, "good": 0}
    assert [one.last_words() for one in jobs] == ["error: bad", ""]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are not told here")
def test_jobs_are_on_their_cores_and_this_process_keeps_its_own(tmp_path):
    before = os.sched_getaffinity(0)
    jobs = [job(tmp_path, name, "import os; print(os.sched_getaffinity(0))") for name in "ab"]
    list(run_all(jobs, 2, Stop()))
    found = [eval((tmp_path / "logs" / f"{name}.out").read_text()) for name in "ab"]
    assert found == shares(sorted(before), 2) and os.sched_getaffinity(0) == before


def test_a_signal_goes_to_all_that_run_and_no_other_begins(tmp_path):
    program = (
        "import signal, sys, time; from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(143)))\n"
        f"Path({str(tmp_path / 'ready')!r} + sys.argv[0] + str(time.time())).touch()\n"
        "time.sleep(60)"
    )
    stop, ends = Stop(), []
    for event in run_all([job(tmp_path, name, program) for name in "abc"], 2, stop):
        if event.status is not None:
            ends.append((event.job.name, event.status))
        elif event.job.name == "b":
            while len(list(tmp_path.glob("ready*"))) < 2:
                time.sleep(0.05)
            stop.noted = signal.SIGTERM
    assert sorted(ends) == [("a", 143), ("b", 143)]
    assert (tmp_path / "logs" / "a.out").read_text() == "saved\n"


def test_no_process_is_left_behind_by_who_stops_to_listen(tmp_path):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    events = run_all([job(tmp_path, "a", program)], 1, Stop())
    next(events)
    while not (text := (tmp_path / "logs" / "a.out").read_text()):
        time.sleep(0.05)
    events.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(text), 0)
