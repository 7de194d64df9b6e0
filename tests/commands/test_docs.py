"""The page of the commands: its lines are accepted by the commands, its program runs."""

import re
import shlex
import sys

import pytest

from jaxep.commands import compare, evaluate, show, sweep
from jaxep.commands.options import parse
from jaxep.run.errors import UserError
from jaxep.training.settings import from_config
from tests.command import ROOT, TINY, run

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
LINES = re.findall(r"^jaxep .*$", PAGE, re.MULTILINE)


def test_there_are_lines_of_every_command():
    assert {line.split()[1] for line in LINES} == {"train", "sweep", "compare", "evaluate", "show"}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_is_taken(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, command, *words = shlex.split(line)
    if command == "train" and "runs/" not in words[1]:
        from_config(parse(words).config)
    elif command == "sweep":
        options, rest = sweep.arguments(words)
        values = sweep.values_of(options.over, options.seeds, parse(rest).config)
        assert len(sweep.plan(rest, values)) > 1
    elif command in ("compare", "evaluate", "show"):
        # The words are good: what is missing is the run.
        function = {"compare": compare, "evaluate": evaluate, "show": show}[command]
        with pytest.raises(UserError, match="no such folder|No such file or directory"):
            getattr(function, command)(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_program_of_the_page_searches(tmp_path):
    pytest.importorskip("optuna", reason="no dependency: pip install optuna")
    (program,) = re.findall(r"<!-- optuna -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    tiny = {**TINY, "epochs": 1, "conv": "4 M", "train_size": 100, "test_size": 20}
    small = program.replace('"epochs": 8}', f'"epochs": 8}} | {tiny}').replace("30", "2")
    assert small.count("n_trials=2,") == 1 and str(tiny) in small
    path = tmp_path / "search.py"
    path.write_text(f"import os; os.chdir({str(tmp_path)!r})\n{small}")
    status, out, err = run([sys.executable, str(path)])
    assert status == 0, err
    assert "'beta'" in out.splitlines()[-1] and len(list((tmp_path / "runs/search").iterdir())) == 2
