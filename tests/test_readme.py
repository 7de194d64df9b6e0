"""The README's example runs as it stands, and what it promises of the configs exists."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_its_examples_run_and_learn(capsys):
    energy, network = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(energy, "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[1]) < 0.01
    names: dict = {}
    exec(compile(network, "README.md", "exec"), names)
    assert "res1_skip" in names["model"].weight_names


def test_every_config_and_picture_it_names_exists():
    named = re.findall(r"configs/\w+\.py|benchmarks/results/[\w.]+", README)
    assert len(named) > 8
    for path in named:
        assert (Path(__file__).parent.parent / path).exists(), path
