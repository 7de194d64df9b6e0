"""What is installed: sdist and wheel hold all that is needed outside of a checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = {
    "train_size": 60,
    "test_size": 30,
    "epochs": 1,
    "t_free": 4,
    "t_nudge": 2,
    "conv": "4 M 4 M",
    "hidden": "(8,)",
    "learning_rates": 0.01,
    "signal_layers": "(0,)",
}


def run(command, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )


def done(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that was built from an sdist, as an installer does it, without a network."""
    place = tmp_path_factory.mktemp("build")
    source = place / "checkout"
    for name in ("jaxep", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "train.py"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-c", "import sys, setuptools.build_meta as b; "]
    build[-1] += "print(getattr(b, sys.argv[1])(sys.argv[2]))"
    archive = done(run([*build, "build_sdist", place], source)).split()[-1]
    shutil.unpack_archive(place / archive, place)
    unpacked = place / archive.removesuffix(".tar.gz")
    return place / done(run([*build, "build_wheel", place], unpacked)).split()[-1]


@pytest.fixture(scope="module")
def jaxep(wheel, tmp_path_factory):
    """The console script of an environment that has the wheel, and the libraries of this one."""
    place = tmp_path_factory.mktemp("installed")
    done(run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], place))
    python = place / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    done(run([*pip, "--no-index", wheel], place))
    (library,) = place.glob("venv/lib/python*/site-packages")
    (library / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = done(run([python, "-P", "-c", "import jaxep; print(jaxep.__file__)"], place))
    assert Path(where.strip()).parent == library / "jaxep"
    return place / "venv" / "bin" / "jaxep"


def test_a_wheel_holds_every_module_and_experiment(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jaxep").rglob("*.py")}
    here |= {f"jaxep/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    inside = {name for name in names if name.endswith(".py")}
    assert inside == here and "jaxep/configs/base.py" in inside
    assert "jaxep/py.typed" in names


def test_what_is_installed_answers_outside_of_a_checkout(jaxep, tmp_path):
    assert "jaxep train --config NAME" in done(run([jaxep, "--help"], tmp_path))
    result = run([jaxep, "train", "--config", "configs/digits_le.py", "--config.beta=-1"], tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: config.beta = -1.0: must be")
    assert not list(tmp_path.iterdir())


def test_types_are_seen_by_a_type_checker(jaxep, tmp_path):
    (tmp_path / "own.py").write_text("import jaxep\nreveal_type(jaxep.Fixed(3))\n")
    checked = run(
        [sys.executable, "-m", "mypy", "--python-executable", jaxep.with_name("python"), "own.py"],
        tmp_path,
    )
    assert 'Revealed type is "jaxep.core.solvers.Fixed"' in checked.stdout, checked.stdout


def train(jaxep, cwd, name, **changes):
    values = [f"--config.{key}={value}" for key, value in {**TINY, **changes}.items()]
    return done(run([jaxep, "train", "--config", name, *values], cwd))


@pytest.mark.slow
def test_what_is_installed_trains(jaxep, tmp_path):
    assert "epoch 1/1" in train(jaxep, tmp_path, "digits_le")
    summary = json.loads((tmp_path / "runs" / "digits_le" / "summary.json").read_text())
    assert summary["epochs"] == 1 and summary["git_commit"] is None


@pytest.mark.slow
def test_what_is_installed_finds_the_teacher_of_a_config(jaxep, tmp_path):
    out = train(jaxep, tmp_path, "digits_kd", conv="32 M 64 M", signal_layers="(0, 1)")
    assert "training the teacher first" in out
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits_kd", "teacher_digits"}


@pytest.mark.slow
def test_what_is_installed_sweeps_compares_evaluates_and_shows(jaxep, tmp_path):
    values = [f"--config.{key}={value}" for key, value in TINY.items()]
    over = ["--over", "beta=.5,2", "--seeds", "2", "--jobs", "2", "--workdir", "all"]
    out = done(run([jaxep, "sweep", "--config", "digits_le", *values, *over], tmp_path))
    assert out.count(": ends after") == 4
    out = done(run([jaxep, "compare", "all", "--out", "told"], tmp_path))
    assert "beta=0.5      2 " in out and "beta=2        2 " in out
    names = {"comparison.csv", "comparison.png"}
    assert {path.name for path in (tmp_path / "told").iterdir()} == names
    assert names < {path.name for path in (tmp_path / "all").iterdir()}
    place = "all/beta=2,seed=1"
    out = done(run([jaxep, "evaluate", place, "--json", "found.json"], tmp_path))
    found = json.loads((tmp_path / "found.json").read_text())
    assert "30 test images: loss" in out and found["epoch"] == 1
    out = done(run([jaxep, "show", place, "--image", "3"], tmp_path))
    assert out.splitlines()[-1] == "show_beta=2,seed=1_3.png"
    assert (tmp_path / "show_beta=2,seed=1_3.png").stat().st_size > 10_000
