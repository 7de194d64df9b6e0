"""The process of a command: streams, signals, what JAX is told, how it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(code, *, without=(), shell="", **environment):
    """The result of a program that has `process` imported; `shell`: redirections."""
    clean = {key: value for key, value in os.environ.items() if key not in without}
    command = ["bash", "-c", f'exec "$@" {shell}', "bash", sys.executable, "-c"]
    return subprocess.run(
        [*command, f"import os, sys; from jaxep import process\n{code}"],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
    )


SAY_CACHE = "process.prepare_jax(); import jax; print(jax.config.jax_compilation_cache_dir)"
NOBODY = "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\n"


def test_compiled_programs_are_kept_where_the_environment_says(tmp_path):
    for environment, place in (
        ({"XDG_CACHE_HOME": str(tmp_path)}, tmp_path / "jaxep"),
        ({"JAX_COMPILATION_CACHE_DIR": "/y"}, "/y"),
    ):
        told = python(SAY_CACHE, without=["JAX_COMPILATION_CACHE_DIR"], **environment)
        assert told.stdout.strip() == str(place), told.stderr


@pytest.mark.parametrize("environment", [{}, {"HOME": "/dev/null"}, {"XDG_CACHE_HOME": "/proc"}])
def test_compiled_programs_are_not_kept_where_there_is_no_place(environment):
    unset = ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME"]
    told = python(NOBODY + SAY_CACHE, without=unset, **environment)
    assert (told.stdout.strip(), told.stderr) == ("None", "")


def test_products_are_of_float32_unless_the_environment_says_otherwise():
    """On a GPU or TPU they would not be; a product traced after `prepare_jax` asks for it."""
    code = "process.prepare_jax(); import jax; "
    code += "print(jax.jit(lambda x: x @ x).lower(jax.numpy.ones((2, 2))).as_text())"
    for environment, precision in (
        ({}, "HIGHEST"),
        ({"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}, "HIGH"),
    ):
        told = python(code, without=["JAX_DEFAULT_MATMUL_PRECISION"], **environment)
        assert f"precision = [{precision}, {precision}]" in told.stdout, told.stderr


def test_every_core_is_a_device_unless_jax_has_begun():
    unset = ["JAX_NUM_CPU_DEVICES", "XLA_FLAGS"]
    count = "import jax; print(jax.local_device_count())"
    told = python(f"process.prepare_jax(); {count}", without=unset, JAX_PLATFORMS="cpu")
    assert told.stdout.strip() == str(len(os.sched_getaffinity(0))), told.stderr
    told = python(f"{count}; process.prepare_jax(); {count}", without=unset, JAX_PLATFORMS="cpu")
    assert told.stdout.split() == ["1", "1"], told.stderr
    assert told.stderr == (
        "warning: JAX was used before this run began: it goes on with the 1 devices there\n"
    )


SPEAK = """
with process.sound_streams():
    console.say(f"{open('/dev/zero').fileno()} {sys.stdin.read()}")
    with contextlib.suppress(OSError):
        os.write(2, b"to stderr, as a library writes")
    console.warn("a line")
    sys.exit(5)
"""


@pytest.mark.parametrize(
    "shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "> >(exit)"]
)
def test_a_stream_that_is_closed_or_full_changes_nothing(shell):
    """Above all no file of the run gets the number of stderr, which libraries write to."""
    told = python(
        "import contextlib, time; from jaxep.run import console; time.sleep(0.5)" + SPEAK,
        shell=shell,
    )
    assert told.returncode == 5, told.stderr
    if ">&-" not in shell.replace("2>&-", "") and shell not in (">/dev/full", "> >(exit)"):
        assert int(told.stdout) > 2
    if "2>" not in shell:
        assert told.stderr == "to stderr, as a library writeswarning: a line\n"


def test_a_signal_is_noted_even_where_its_note_cannot_be_written():
    """Ctrl-C ends the tee of `2>&1 | tee log` first."""
    code = """
noted = process.Signals()
import signal
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
with process.sound_streams():
    print("went on after", noted.noted, noted())
"""
    for shell in ("2>&-", "2>/dev/full", "2> >(exit)"):
        told = python(f"import time; time.sleep(0.3){code}", shell=shell)
        assert (told.returncode, told.stdout) == (0, f"went on after {signal.SIGINT:d} True\n")
    told = python(code)
    assert told.stderr.count("stopping: the updates under way are finished and saved") == 1


def test_a_terminal_that_hangs_up_is_a_signal_unless_the_caller_ignores_it():
    code = """
import signal
noted = process.Signals()
os.kill(os.getpid(), signal.SIGHUP)
print(noted.noted)
"""
    # A test may itself be run by what ignores the signal, as nohup does.
    for handler, noted in (("DFL", f"{signal.SIGHUP:d}"), ("IGN", "None")):
        before = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_{handler})"
        assert python(before + code).stdout == f"{noted}\n"


def test_what_takes_too_long_ends_in_one_line():
    code = """
import time
with process.leaving_after(60, "not this", 9):
    pass
with process.leaving_after(0.2, "nothing\\ncame", 4):
    time.sleep(60)
"""
    began = time.monotonic()
    told = python(code)
    assert (told.returncode, told.stdout, told.stderr) == (4, "", "error: nothing came\n")
    assert time.monotonic() - began < 50
