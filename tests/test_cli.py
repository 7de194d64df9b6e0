"""Bad input of the command that is refused before JAX is imported; test_train.py has the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOOD = "configs/digits_le.py"


def train(*arguments, cwd=ROOT, **environment):
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


def refused(result, *words):
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
    assert all(word in result.stderr for word in words), result.stderr


FLAGS = [
    (["--config.betta=0.1"], "--config.betta=0.1: no such key; did you mean beta?"),
    (["--config.hidden.size=3"], "--config.hidden.size=3: no such key"),
    (["--noconfig.augmen"], "--noconfig.augmen: no such key; did you mean augment?"),
    (["--config.beta=abc"], "--config.beta=abc: could not convert string to float"),
    (["--config.t_free=2.5"], "--config.t_free=2.5: invalid literal for int()"),
    (["--config.augment=maybe"], "--config.augment=maybe: "),
    (["--config.beta"], "Missing value for flag --config.beta"),
    (["--wrkdir=x"], "wrkdir"),
    (["stray"], "unknown argument 'stray'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), FLAGS, ids=[a[0] for a, _ in FLAGS])
def test_a_bad_flag_is_one_line(arguments, sentence, tmp_path):
    refused(train("--config", GOOD, "--workdir", tmp_path / "run", *arguments), sentence)
    assert not (tmp_path / "run").exists()


FILES = {
    "def get_config(": "SyntaxError",
    "import no_such_module": "No module named 'no_such_module'",
    "def get_config():\n    return undefined": "name 'undefined' is not defined",
    "1 / 0": "ZeroDivisionError: division by zero",
    "x = 1": "no attribute 'get_config'",
    "def get_config():\n    return None": "its get_config() returns nothing",
    "def get_config():\n    return {1: 2}": "'dict' object has no attribute 'to_dict'",
    "def get_config(a, b):\n    return a": "missing 2 required positional arguments",
}


@pytest.mark.parametrize("text", FILES)
def test_a_broken_config_file_is_one_line(text, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    refused(train("--config", path), FILES[text])


def test_no_config_file_is_one_line(tmp_path):
    refused(train(), "--config is missing")
    refused(train("--config", tmp_path / "none.py"), "No such file or directory", "none.py")
    refused(train("--config", tmp_path), "Is a directory")


def test_the_command_serves_from_any_directory(tmp_path):
    """A value of the right type that is not allowed: the config was found, read and checked."""
    result = train("--config", ROOT / GOOD, "--config.relaxation=3.0", cwd=tmp_path)
    refused(result, "config.relaxation = 3.0: must be a number over 0 and under 2")
    assert not list(tmp_path.iterdir())


def test_compiled_programs_are_kept_where_the_environment_says():
    program = "import jax; from jaxep import cli; cli.prepare_jax(); "
    program += "print(jax.config.jax_compilation_cache_dir)"
    command = [sys.executable, "-c", program]
    clean = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    for environment, place in (
        ({"XDG_CACHE_HOME": "/x"}, "/x/jaxep"),
        ({"JAX_COMPILATION_CACHE_DIR": "/y"}, "/y"),
    ):
        told = subprocess.run(
            command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
        )
        assert told.stdout.strip() == place, told.stderr


def test_products_are_of_float32_unless_the_environment_says_otherwise():
    """On a GPU or TPU they would not be; a product traced after `prepare_jax` asks for it."""
    program = "import jax; from jaxep import cli; cli.prepare_jax(); "
    program += "print(jax.jit(lambda x: x @ x).lower(jax.numpy.ones((2, 2))).as_text())"
    clean = {k: v for k, v in os.environ.items() if k != "JAX_DEFAULT_MATMUL_PRECISION"}
    for environment, precision in (
        ({}, "HIGHEST"),
        ({"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}, "HIGH"),
    ):
        told = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**clean, **environment},
            capture_output=True,
            text=True,
        )
        assert f"precision = [{precision}, {precision}]" in told.stdout, told.stderr
