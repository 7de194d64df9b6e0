"""Imports point one way, files stay short, and the public names are there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxep

ROOT = Path(__file__).parents[1]
BELOW = {"core", "nets", "energies", "run", "training", "configs"}
# What each room may import of the package; files at its top may import all rooms.
ALLOWED = {
    "core": {"core"},
    "nets": {"core", "nets"},
    "energies": {"core", "nets", "energies"},
    "run": {"run"},
    "training": BELOW,
    "commands": {*BELOW, "commands", "process", "meeting"},
}


def rooms_imported(path):
    """The rooms of jaxep that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxep":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "jaxep"]
        else:
            continue
        found |= {name.split(".")[1] for name in names if "." in name}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_no_import_runs_back(room):
    files = sorted((ROOT / "jaxep" / room).glob("*.py"))
    assert files
    for path in files:
        assert rooms_imported(path) - {"_version"} <= ALLOWED[room], path


def test_the_library_imports_neither_benchmarks_nor_tests():
    for path in (ROOT / "jaxep").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            assert (module or "").split(".")[0] not in ("benchmarks", "tests", "configs"), path


def test_modules_and_functions_are_short():
    for folder in ("jaxep", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert len(text.splitlines()) <= 300, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    assert lines <= 50, (path, node.name, lines)


def test_every_public_name_is_there():
    for name in jaxep.__all__:
        assert getattr(jaxep, name) is not None
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = jaxep.no_such_thing


def test_the_core_alone_loads_no_network_and_no_data_set():
    program = (
        "import sys, jaxep; "
        "print([m for m in sys.modules if m.startswith(('jaxep.nets', 'jaxep.training', 'flax', "
        "'orbax', 'tensorflow'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
