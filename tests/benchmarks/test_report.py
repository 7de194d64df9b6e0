"""The report of the committed results, claims, and the command line of the benchmarks."""

import json
import shutil

import pytest

from benchmarks import __main__, report
from benchmarks.paper import (
    depth,
    gradients,
)
from benchmarks.shared import results
from tests.benchmarks.test_paper import depth_result, row
from tests.command import ROOT


def test_the_report_tells_known_unknown_unfinished_and_missing_results(tmp_path):
    (tmp_path / "depth.json").write_text(json.dumps({**depth_result(), "scale": "small"}))
    (tmp_path / "depth.png").write_bytes(b"")
    other = {
        "device": {"kind": "cpu", "count": 2},
        "git_commit": "abcdef0123456",
        "git_dirty": True,
    }
    (tmp_path / "sparsity.json").write_text(json.dumps(other))
    cut = {"runs": {"LE": row(0.5)}, "finished": False, "seconds": 5}
    (tmp_path / "curves_paper.json").write_text(json.dumps(cut))
    __main__.main(["report", "--results", str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    assert "![Fig. 1: depth](depth.png)" in text and depth.table(depth_result()) in text
    assert "## sparsity" in text and "2 × cpu, commit abcdef0123 with changes" in text
    assert "(paper scale)\n\nThe command was cut off" in text
    assert "sparsity.png" not in text
    missing = text.split("## Not measured yet")[1]
    assert "table1" in missing and "depth" not in missing


def test_the_report_of_the_committed_results_has_a_section_for_each(tmp_path):
    folder = ROOT / "benchmarks/results"
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    text = report.page(found, {path.name for path in folder.glob("*.png")})
    for stem in found:
        assert f"({stem}.json)" in text
    assert text == (folder / "README.md").read_text()


def test_every_picture_of_the_committed_results_is_drawn_from_its_json(tmp_path):
    folder = ROOT / "benchmarks/results"
    for path in folder.glob("*.json"):
        shutil.copy(path, tmp_path)
    __main__.main(["report", "--draw", "--results", str(tmp_path)])
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in folder.glob("*.png")}
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()


def test_a_claim_is_judged_by_the_numbers_of_the_result():
    """A worse number in a committed result turns the word in the last column."""
    result = json.loads((ROOT / "benchmarks/results/gradients.json").read_text())
    assert all(claim.holds for claim in gradients.claims(result))
    result["signals"]["LE"]["slopes"]["centered"] = 1.2
    holds = [claim.holds for claim in gradients.claims(result)]
    assert holds == [False, True, True, True]
    assert "**no**" in report.section("gradients", result, set())


def test_a_result_is_kept_with_its_origin_and_marked_until_it_is_finished(tmp_path):
    options = results.Options("depth", "tiny", tmp_path, command="python -m benchmarks depth")
    options.keep({"runs": {"a": float("nan")}}, finished=False)
    written = json.loads((tmp_path / "depth_tiny.json").read_text())
    assert written["finished"] is False and written["runs"] == {"a": None}
    assert written["versions"]["jax"] and written["device"]["count"] >= 1
    assert "finished" not in options.keep({"runs": {}})
    assert options.kept("runs", "other") == {"runs": {}}


def test_training_is_told_of_runs_wherever_a_result_has_them():
    run = {"training_seconds": 60.0, "test_acc": [0.5, 0.9]}
    result = {"rows": {"KD": {"runs": [run, run]}, "LE": {"training_seconds": [5.0, 6.0]}}}
    assert report.training_seconds(result) == 131.0
    origin = report.origin({**result, "seconds": 3.0, "note": "none"})
    assert origin.endswith("3 s, 131 s of training behind its rows")


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ("solvers", {"problems": 5, "rounds": 3}),
        ("step_time vgg5 digits_le --peer DIR", {"nets": ["vgg5", "digits_le"], "peer": "DIR"}),
        ("graphs resnet13 --batch 8", {"nets": ["resnet13"], "batch": 8}),
    ],
)
def test_a_benchmark_reads_its_own_arguments(given, own):
    read = vars(__main__.parse(given.split()))
    for key, value in own.items():
        assert value == (len(read[key]) if key == "problems" else read[key])


@pytest.mark.parametrize("given", ["step_time vgg8", "depth --scale huge", "depht"])
def test_a_word_misspelt_on_the_command_line_is_refused(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.main(given.split())
    assert "invalid choice" in capsys.readouterr().err
