"""Nothing is lost: kills at random moments, signals, a full disk, two runs in one place."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from tests.command import PATIENCE, command, ending, finish, rows, run, start
from tests.saved import steps_on_disk

LONG = {"epochs": 12, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs, shared by all runs here."""
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """(ending, seconds) of a run that nothing interrupts, its programs already compiled."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("cold", "warm"):
        began = time.monotonic()
        status, _, err = run(command(folder / name, **LONG), **cache)
        assert status == 0, err
    return ending(folder / "warm", **LONG), time.monotonic() - began


def wait_for(condition, process):
    """Returns when the condition holds, or the process has ended."""
    until = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None:
        if time.monotonic() > until:
            process.kill()  # what a failed test started would go on for ever
            pytest.fail(f"nothing of what was awaited came in {PATIENCE} s")
        time.sleep(0.01)


def kill(words, workdir, rng, seconds, cache):
    """Starts a run and kills it; half of the moments are in the whole life of a run, half in its
    epochs: after a random row. True where it was still alive."""
    process = start(words, **cache)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, seconds))
    else:
        awaited = rng.randrange(1, LONG["epochs"])
        wait_for(lambda: len(rows(workdir)) >= awaited, process)
        time.sleep(rng.uniform(0, 0.15))
    process.kill()
    status, _, err = finish(process)
    assert status in (0, -signal.SIGKILL), err
    return status != 0


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_kill_at_a_random_moment_changes_nothing(number, tmp_path, cache, whole):
    expected, seconds = whole
    rng = random.Random(number)
    words = command(tmp_path, **LONG)
    reached = []
    # A run that was at its end before the kill begins anew; every fourth is killed twice.
    while len(reached) < (2 if number % 4 == 0 else 1):
        if kill(words, tmp_path, rng, seconds, cache):
            reached.append(len(rows(tmp_path)))
        elif (tmp_path / "summary.json").exists():
            shutil.rmtree(tmp_path)
    status, _, err = run(words, **cache)
    assert (status, err) == (0, ""), err
    assert ending(tmp_path, **LONG) == expected
    print(f"killed after epoch {' and '.join(map(str, reached))} of {LONG['epochs']}")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_gives_the_command_that_goes_on(number, status, tmp_path, cache, whole):
    words = command(tmp_path / "a run", **LONG)
    process = start(words, **cache)
    wait_for(lambda: len(rows(tmp_path / "a run")) >= 3, process)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # a second one changes nothing
    code, _, err = finish(process)
    assert code == status and "Traceback" not in err, err
    *_, last = err.strip().splitlines()
    assert last.startswith(f"error: {number.name}: saved after update ")
    again = shlex.split(last.partition("to go on: ")[2])
    assert again == words
    done = len(rows(tmp_path / "a run"))
    code, out, err = run(again, **cache)
    told, *epochs = out.splitlines()
    assert (code, err) == (0, "") and len(epochs) == LONG["epochs"] - done
    assert ", on from update " in told
    assert ending(tmp_path / "a run", **LONG) == whole[0]


@pytest.mark.slow
def test_ctrl_c_ends_the_tee_of_a_log_and_saves_the_run_all_the_same(tmp_path, cache):
    """The terminal sends it to both; the note of the signal finds nobody who reads it."""
    words = command(tmp_path / "run", epochs=10**6, checkpoint_every=0)
    pipe = 'trap : INT; "$@" 2>&1 | tee "$0"; exit "${PIPESTATUS[0]}"'
    shell = start(["bash", "-c", pipe, str(tmp_path / "log"), *words], new_session=True, **cache)
    wait_for(lambda: len(rows(tmp_path / "run")) >= 2, shell)
    os.killpg(shell.pid, signal.SIGINT)
    assert finish(shell)[0] == 130
    before = len(rows(tmp_path / "run"))
    assert steps_on_disk(tmp_path / "run")[-1] >= 6 * before
    status, _, err = finish_after_a_row(start(words, **cache), tmp_path / "run")
    assert status == 143, err


REDIRECTIONS = [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| head -1", "2>&1 | :"]


@pytest.mark.slow
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_stream_that_nobody_reads_costs_nothing(redirection, tmp_path, cache, whole):
    words = command(tmp_path / "run", **LONG)
    pipe = f'"$@" {redirection}; exit "${{PIPESTATUS[0]}}"'
    status, _, err = run(["bash", "-c", pipe, "bash", *words], **cache)
    assert status == 0, err
    assert "Traceback" not in err and "workdir" not in err, err
    assert (tmp_path / "run" / "summary.json").exists()
    assert ending(tmp_path / "run", **LONG) == whole[0]


@pytest.mark.slow
def test_a_finished_run_says_so_in_a_line_and_writes_nothing(tmp_path, cache):
    words = command(tmp_path / "run", **LONG)
    assert run(words, **cache)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    status, out, err = run(words, **cache)
    assert (status, err) == (0, "") and len(out.splitlines()) == 1
    assert out.startswith(f"{tmp_path / 'run'} is finished: 12 epochs, test accuracy ")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.slow
def test_a_signal_during_compilation_is_answered(tmp_path, cache, whole):
    words = command(tmp_path / "run", **LONG)
    process = start(words, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "empty"))
    wait_for((tmp_path / "run" / "layers.csv").exists, process)  # all is ready but the program
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert code == 143 and "saved after update" in err, err
    assert out.endswith("; compiling the first\n") and len(out.splitlines()) == 1
    assert run(words, **cache)[0] == 0
    assert ending(tmp_path / "run", **LONG) == whole[0]


@pytest.mark.slow
def test_a_second_run_in_one_workdir_is_refused(tmp_path, cache):
    words = command(tmp_path, epochs=10**6)
    first = start(words, **cache)
    try:
        wait_for(lambda: len(rows(tmp_path)) >= 1, first)
        status, out, err = run(words, **cache)
        assert (status, out) == (2, "")
        assert err == f"error: workdir {tmp_path} is in use by another process\n"
        assert first.poll() is None
    finally:
        first.kill()
        finish(first)
    # The kernel frees the lock of a killed process.
    status, _, err = finish_after_a_row(start(words, **cache), tmp_path)
    assert status == 143, err


def finish_after_a_row(process, workdir):
    before = len(rows(workdir))
    wait_for(lambda: len(rows(workdir)) > before, process)
    process.terminate()
    return finish(process)


def ended_in_one_line(status, err, word):
    lines = err.strip().splitlines()
    assert status == 2 and len(lines) == 1, err
    assert lines[0].startswith("error: ") and word in lines[0], err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB; where none can be mounted the test cannot be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_spares_what_is_saved(small_disk, tmp_path, cache):
    words = command(small_disk / "run", epochs=10**4, keep_checkpoints=10**4)
    status, _, err = run(words, **cache)
    ended_in_one_line(status, err, "No space left on device")
    # On a larger disk the same run goes on from the last checkpoint.
    shutil.copytree(small_disk / "run", tmp_path / "run")
    words = command(tmp_path / "run", epochs=10**4, keep_checkpoints=10**4)
    before = len(rows(tmp_path / "run"))
    status, _, err = finish_after_a_row(start(words, **cache), tmp_path / "run")
    assert status == 143 and "warning" not in err, err
    assert before and len(rows(tmp_path / "run")) > before


@pytest.mark.slow
def test_a_limit_that_a_save_meets_while_it_writes_is_told_in_one_line(tmp_path):
    # A quota is met like this, after the free space of the disk was found to be enough.
    words = command(tmp_path / "run", conv="16 M 16 M")
    limited = ["bash", "-c", 'ulimit -f 4 && exec "$@"', "bash"]  # in kB; a file of arrays has 9
    status, _, err = run([*limited, *words], JAX_ENABLE_COMPILATION_CACHE="false")
    ended_in_one_line(status, err, "File too large")
