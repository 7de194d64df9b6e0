"""The benchmarks' commands at their tiny scale."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.paper import gradients

ROOT = Path(__file__).parents[2]

# Those that take a scale.
COMMANDS = (
    "depth convergence curves vanishing schedules gradients contraction table1 table3 dynamics "
    "feedback stencils"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Shared by the commands, as a user's runs/ is: what one has trained, another does not."""
    return tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS.split())
def test_the_command_runs_at_tiny_scale_and_is_told_by_the_report(name, folders):
    results, work = folders
    command = [sys.executable, "-m", "benchmarks", name, "--scale", "tiny"]
    command += ["--results", str(results), "--runs", str(work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    stem = f"{name}_tiny"
    assert (results / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((results / f"{stem}.json").read_text())
    typed = f"python -m benchmarks {name} --scale tiny"
    assert result["command"].startswith(typed) and result["scale"] == "tiny"
    assert result["seconds"] > 0 and result["versions"]["jax"]
    benchmark = report.BENCHMARKS[name]
    table = benchmark.module.table(result)
    assert table in done.stdout
    section = report.section(stem, result, {f"{stem}.png"})
    assert table in section and f"`{typed}`" in section
    claims = benchmark.claims(result)
    assert claims and all(claim.here in section for claim in claims)


@pytest.mark.slow
def test_slopes_and_steps_of_the_tiny_gradients_are_as_the_theorems_say(folders):
    result = json.loads((folders[0] / "gradients_tiny.json").read_text())
    slopes = [claim for claim in gradients.claims(result) if "as β to the power" in claim.statement]
    assert len(slopes) == 2 and all(claim.holds for claim in slopes)
    for found in result["signals"].values():
        for step in found["by_step"]:
            assert gradients.worst(step["ep_against_bptt"])[1] < 1e-4
