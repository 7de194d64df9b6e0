"""The scripts of docs/examples run as they stand, are short, and do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def own_energy(out):
    return float(re.search(r"loss ([\d.]+)", out)[1]) < 0.01


def residual_net(out):
    assert "{'a': 0, 'b': 1, 'c': 2}" in out
    return float(re.search(r"accuracy ([\d.]+)", out)[1]) > 80


def own_coupling(out):
    return float(re.search(r"residual (\S+),", out)[1]) < 1e-3


def own_signal(out):
    before, after = map(float, re.search(r"([\d.]+) before, ([\d.]+) after", out).groups())
    return abs(after - 0.1) < 0.5 * abs(before - 0.1)


def own_solver(out):
    found = [float(value) for value in re.findall(r"residual (\S+)", out)]
    return found[0] > 0.01 > 1e-3 > max(found[1:])


def own_data(out):
    return float(re.search(r"accuracy ([\d.]+)", out)[1]) > 80


def ep_layer(out):
    return float(re.search(r"accuracy ([\d.]+)", out)[1]) > 80


def look_inside(out):
    return "conv1" in out and "states.png" in out


CHECKS = [
    own_energy,
    residual_net,
    own_coupling,
    own_signal,
    own_solver,
    own_data,
    ep_layer,
    look_inside,
]


def test_every_example_is_checked_and_at_most_40_lines():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {check.__name__ for check in CHECKS}
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_example_does_what_it_says(check, tmp_path):
    script = EXAMPLES / f"{check.__name__}.py"
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert check(done.stdout), done.stdout
