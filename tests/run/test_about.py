"""What is told of a run, out of its config."""

from jaxep import configs
from jaxep.run.about import about


def test_a_network_a_teacher_and_a_run_without_a_config():
    digits = about(configs.load("digits_le").to_dict())
    assert digits.title == (
        "digits_le: digits, 32 32 M 64 64 M 64 64 + 64, hopfield ep, signal le, β 2.0, seed 0"
    )
    assert digits.augmented and digits.tolerances == {}
    tolerant = about({"task": "ep", "solver": "tolerance", "tol_free": 1e-3, "tol_nudge": 2e-4})
    assert tolerant.tolerances == {"free_residual": 1e-3, "nudge_residual": 2e-4}
    teacher = about(configs.load("teacher_digits").to_dict())
    assert "β" not in teacher.title and ", teacher, seed 0" in teacher.title
    assert about({}).title.startswith("run: ")
