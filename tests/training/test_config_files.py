"""Config files: found anywhere, refused in a line where broken, of a run as of an experiment."""

import json

import pytest
from ml_collections import ConfigDict

from jaxep.run.errors import UserError
from jaxep.training.settings import from_config, load_config_file, to_dict


def config(name="digits_le", **changes):
    return {**load_config_file(f"configs/{name}.py").to_dict(), **changes}


BROKEN = {
    "def get_config(": "SyntaxError",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "def get_config():\n    return undefined": "NameError: name 'undefined' is not defined",
    "x = 1": "AttributeError",
    "def get_config():\n    raise RuntimeError('one\\ntwo')": "RuntimeError: one",
    "def get_config():\n    return None": "its get_config() returns nothing, must return a",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_config_file_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config_file(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert BROKEN[text] in str(error.value) and "\n" not in str(error.value)


def test_a_config_file_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config_file("configs/teacher_digits.py").name == "teacher_digits"
    with pytest.raises(UserError, match="^configs/none.py: No such file or directory"):
        load_config_file("configs/none.py")


def test_a_config_takes_numbers_tuples_and_names_for_one_key():
    """A ConfigDict holds other keys to the type of their default."""
    values = load_config_file("configs/digits_le.py")
    for rates in (0.1, (0.2,) * 8, {"default": 0.3}):
        values.learning_rates = rates
        assert from_config(values).learning_rates == rates
    with pytest.raises(TypeError):
        values.beta = "large"


def test_the_config_of_a_run_serves_as_a_config_file(tmp_path):
    settings = from_config(config(learning_rates={"default": 0.1}))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(settings)))
    assert isinstance(load_config_file(str(path)), ConfigDict)
    assert from_config(load_config_file(str(path))) == settings
