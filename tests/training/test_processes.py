"""Two processes on loopback are one run: they train, resume, stop together, and miss each other."""

import shlex
import signal
import socket
import time

import numpy as np
import pytest

from jaxep.run.tables import read_metrics
from tests.command import command, finish, rows, run, start
from tests.training.test_interruption import wait_for

pytestmark = pytest.mark.slow
EXACT = {"free_steps", "nudge_steps", "epoch", "kappa", "lr", "skipped"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


def start_two(workdir, cache, **changes):
    """Both processes of a run; the second has a work directory that nobody must touch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--coordinator", f"127.0.0.1:{port}", "--num_processes", "2"]
    places = (workdir, workdir.with_name("untouched"))
    return [
        start(command(place, *flags, "--process_id", str(i), **changes), **cache)
        for i, place in enumerate(places)
    ]


def said(err):
    """stderr without what XLA's runtime writes by itself."""
    return [line for line in err.strip().splitlines() if line.startswith(("error:", "Traceback"))]


def assert_equal_runs(workdir, other):
    one, two = (read_metrics(place / "metrics.csv") for place in (workdir, other))
    for column in set(one) - {"seconds"}:
        tolerance = 0 if column in EXACT else 1e-5
        got, want = (np.asarray(m[column], float) for m in (one, two))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=column)


def test_two_processes_equal_one_with_two_devices(tmp_path, cache):
    ends = [finish(process) for process in start_two(tmp_path / "two", cache)]
    assert [end[0] for end in ends] == [0, 0], ends
    lines = [[line for line in out.splitlines() if line.startswith("epoch")] for _, out, _ in ends]
    assert [len(told) for told in lines] == [3, 0]
    assert not (tmp_path / "untouched").exists()
    status, _, err = run(command(tmp_path / "one"), **{**cache, "JAX_NUM_CPU_DEVICES": "2"})
    assert status == 0, err
    assert_equal_runs(tmp_path / "two", tmp_path / "one")


def test_a_signal_to_one_stops_both_and_both_go_on(tmp_path, cache):
    whole = [finish(p)[0] for p in start_two(tmp_path / "whole", cache, epochs=8)]
    first, second = start_two(tmp_path / "run", cache, epochs=8)
    wait_for(lambda: len(rows(tmp_path / "run")) >= 2, first)
    second.send_signal(signal.SIGTERM)
    ends = [finish(first), finish(second)]
    assert [end[0] for end in ends] == [143, 143] and whole == [0, 0], ends
    for number, (_, _, err) in enumerate(ends):
        (line,) = said(err)
        again = shlex.split(line.partition("to go on: ")[2])
        assert "saved after update" in line and again[-2:] == ["--process_id", str(number)]
    assert 2 <= len(rows(tmp_path / "run")) < 8
    assert [finish(p)[0] for p in start_two(tmp_path / "run", cache, epochs=8)] == [0, 0]
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


@pytest.mark.parametrize("killed", [0, 1])
def test_one_killed_makes_the_other_stop(killed, tmp_path, cache):
    processes = start_two(tmp_path / "run", cache, epochs=10**6)
    wait_for(lambda: len(rows(tmp_path / "run")) >= 2, processes[0])
    processes[killed].kill()
    began = time.monotonic()
    status, _, err = finish(processes[1 - killed])
    print(f"stopped after {time.monotonic() - began:.1f} s with status {status}")
    finish(processes[killed])
    # Either this program's own line or that of JAX's runtime, which may be the first to notice.
    assert status not in (0, None) and ("is gone" in err or "another task died" in err), err


def test_what_stops_the_first_stops_the_second(tmp_path, cache):
    """A work directory of another config is seen by process 0 alone."""
    assert run(command(tmp_path / "run", epochs=1), **cache)[0] == 0
    first, second = (finish(p) for p in start_two(tmp_path / "run", cache, beta=0.7))
    assert first[0] == 2 and "another config" in said(first[2])[0]
    assert second[0] not in (0, None)


def test_two_of_one_number_are_refused_in_a_line_by_both(tmp_path, cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--coordinator", f"127.0.0.1:{port}", "--num_processes", "2", "--process_id", "0"]
    first = start(command(tmp_path / "run", *flags), **cache)
    time.sleep(8)
    status, _, err = run(command(tmp_path / "run", *flags), **cache)
    assert status == 4 and "process 0 cannot listen there" in err
    first.send_signal(signal.SIGINT)
    status_of_first, _, err_of_first = finish(first)
    assert status_of_first == 130 and "had not met yet" in err_of_first
    assert len(err.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_one_that_waits_alone_says_who_did_not_come(tmp_path, cache):
    """The two minutes are made shorter."""
    code = "import sys; from jaxep import cli, meeting; wait = meeting.meet\n"
    code += "meeting.meet = lambda *a, **k: wait(*a, **k, seconds=1)\n"
    code += "cli.main(['train', *sys.argv[1:]])\n"
    flags = ["--coordinator", "127.0.0.1:18673", "--num_processes", "3", "--process_id", "0"]
    words = command(tmp_path / "run", *flags)
    status, out, err = run([words[0], "-c", code, *words[2:]], **cache)
    assert (status, out) == (4, "")
    assert err == "error: --num_processes 3: of process 1, 2 nothing was heard within 1 s\n"


FLAGS = [
    (["--coordinator", "localhost:1"], "all three"),
    (["--process_id", "0", "--num_processes", "2"], "all three"),
    (["--coordinator", "here", "--process_id", "0", "--num_processes", "1"], "must be HOST:PORT"),
    (["--coordinator", "a:1", "--process_id", "2", "--num_processes", "2"], "must be under"),
    (["--coordinator", "a:1", "--process_id", "-1", "--num_processes", "2"], "process_id"),
    (["--coordinator", "auto"], "--coordinator auto: "),
]


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=[" ".join(f) for f, _ in FLAGS])
def test_flags_that_do_not_fit_are_one_line(flags, words, tmp_path):
    status, _, err = run(command(tmp_path / "run", *flags))
    assert status in (2, 4) and words in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_processes_cannot_share_is_refused_by_both(tmp_path, cache):
    ends = [finish(p) for p in start_two(tmp_path / "run", cache, batch_size=15)]
    for status, _, err in ends:
        assert status == 2 and "must be a multiple of the number of processes, 2" in said(err)[0]
    assert not (tmp_path / "run").exists()
