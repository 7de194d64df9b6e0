"""What the command line says and refuses; training/test_loop.py has what it trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxep.cli import COMMANDS, main
from jaxep.commands.options import parse
from jaxep.run.errors import SettingsError
from jaxep.training.settings import from_config

ROOT = Path(__file__).parent.parent
GOOD = "configs/digits_le.py"


def train(*arguments, cwd=ROOT, **environment):
    """The result of the command; a variable that is None is not set."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    merged = {**os.environ, **environment}
    set_variables = {key: value for key, value in merged.items() if value is not None}
    return subprocess.run(command, cwd=cwd, env=set_variables, capture_output=True, text=True)


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
    (["--config.hidden", "(8,)", "(9,)"], "unknown argument '(9,)'"),
    (["--flagfile=/nothere"], "Unable to open flagfile: [Errno 2] No such file or directory"),
    (["--flagfile=/"], "Unable to open flagfile: [Errno 21] Is a directory"),
    (["--flagfile"], "--flagfile with no argument"),
    (["--config"], "--config: it needs a value"),
    (["--config.name=.."], "config.name = '..': must be"),
    (["--config.name=."], "config.name = '.': must be"),
]


@pytest.mark.parametrize(("arguments", "sentence"), FLAGS, ids=[a[0] for a, _ in FLAGS])
def test_a_bad_flag_is_one_line(arguments, sentence):
    with pytest.raises(SettingsError) as error:
        from_config(parse(["--config", GOOD, *arguments]).config)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_bad_flag_ends_the_command_with_status_2(tmp_path):
    workdir = tmp_path / "run"
    refused(train("--config", GOOD, "--workdir", workdir, "--config.betta=1"), "no such key")
    assert not workdir.exists()


FILES = {
    "def get_config(": "SyntaxError",
    "import no_such_module": "No module named 'no_such_module'",
    "def get_config():\n    return undefined": "name 'undefined' is not defined",
    "1 / 0": "ZeroDivisionError: division by zero",
    "x = 1": "no attribute 'get_config'",
    "def get_config():\n    return None": "its get_config() returns nothing",
    "def get_config():\n    return {1: 2}": "get_config() returns dict, must return a ConfigDict",
    "def get_config(a, b):\n    return a": "missing 2 required positional arguments",
    "exit()": "SystemExit",
}


@pytest.mark.parametrize("text", FILES)
def test_a_broken_config_file_is_one_line(text, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        parse(["--config", str(path)])
    assert FILES[text] in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_config_file_is_one_line(tmp_path):
    refused(train(), "--config is missing")
    refused(train("--config", tmp_path / "none.py"), "No such file or directory", "none.py")
    refused(train("--config", tmp_path), "Is a directory")
    refused(train("--config", "digits_lee"), "did you mean digits_le?")


def test_the_command_serves_from_any_directory(tmp_path):
    """A value of the right type that is not allowed: the config was found, read and checked."""
    result = train("--config", ROOT / GOOD, "--config.relaxation=3.0", cwd=tmp_path)
    refused(result, "config.relaxation = 3.0: must be a number over 0 and under 2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [GOOD, "digits_le", "digits_le.py", "configs/digits_le"])
def test_an_experiment_is_found_by_its_name_in_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse(["--config", name]).config
    assert config["name"] == "digits_le" and config["signal_layers"] == (0, 1, 3, 5)


def test_a_file_here_comes_before_an_experiment_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "from jaxep.configs.base import get_config as get_base\n\n\n"
    text += "def get_config(name='mine'):\n    config = get_base()\n    config.name = name\n"
    (tmp_path / "digits_le.py").write_text(text + "    return config\n")
    assert parse(["--config", "digits_le.py"]).config["name"] == "mine"
    assert parse(["--config=digits_le.py:hers"]).config["name"] == "hers"


def test_the_config_of_a_run_serves_as_one(tmp_path):
    before = parse(["--config", GOOD]).config
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**before, "beta": 0.75}))
    after = parse(["--config", str(path), "--config.epochs=3"]).config
    as_json = json.loads(json.dumps(after))
    assert as_json == json.loads(json.dumps({**before, "beta": 0.75, "epochs": 3}))
    for text, words in (("{", "Expecting"), ('{"beta": "x"}', "beta"), ("[1]", "config.json")):
        path.write_text(text)
        with pytest.raises(SettingsError, match=words):
            parse(["--config", str(path)])


OVERRIDES = [
    (["--config.hidden=(8,)"], "hidden", (8,)),
    (["--config.hidden", "(8,)"], "hidden", (8,)),
    (["--config.hidden=(8,)", "--config.hidden=(9, 10)"], "hidden", (9, 10)),
    (["--config.signal_layers=(0,)", "--config.signal_layers=(1,)"], "signal_layers", (1,)),
    (["--config.signal_layers=()"], "signal_layers", ()),
    (["--config.learning_rates=0.1"], "learning_rates", 0.1),
    (["--config.learning_rates={'conv1': 0.1}"], "learning_rates", {"conv1": 0.1}),
    (["--config.beta=1", "--config.beta=2"], "beta", 2.0),
    (["--noconfig.augment"], "augment", False),
    (["--config.augment=false", "--config.augment"], "augment", True),
    (["--config.conv=8 M"], "conv", "8 M"),
]


@pytest.mark.parametrize(
    ("words", "key", "value"), OVERRIDES, ids=[" ".join(o[0]) for o in OVERRIDES]
)
def test_the_last_value_of_a_key_is_its_value(words, key, value):
    got = parse(["--config", GOOD, *words]).config
    assert got[key] == value and type(got[key]) is type(value)
    default = parse(["--config", GOOD]).config
    assert {k: v for k, v in got.items() if k != key} == {
        k: v for k, v in default.items() if k != key
    }


def test_types_of_a_config_of_ones_own_are_open(tmp_path):
    """Tuples of a plain ConfigDict, which ml_collections adds up, its lists and NumPy's numbers."""
    path = tmp_path / "own.py"
    path.write_text(
        "import numpy as np\nfrom ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'a': (1, 2), 'b': [1, 2], 'c': np.float64(0.5), 'd': None})\n"
    )
    words = ["--config.a=(3,)", "--config.a=(4,)", "--config.b=[5]", "--config.c=0.25"]
    config = parse(["--config", str(path), *words, "--config.d=x"]).config
    assert config == {"a": (4,), "b": [5], "c": 0.25, "d": "x"}


def test_flags_come_from_a_file_too(tmp_path):
    (tmp_path / "flags").write_text(f"--config={GOOD}\n# a comment\n--config.hidden=(5,)\n")
    options = parse([f"--flagfile={tmp_path / 'flags'}", "--workdir", "x", "--process_id=0"])
    assert options.config["hidden"] == (5,) and options[1:] == ("x", None, 0, None)


def test_warnings_of_libraries_are_no_errors_of_the_config_file():
    result = train("--config", GOOD, "--config.relaxation=3.0", PYTHONWARNINGS="error")
    refused(result, "config.relaxation = 3.0: must be a number over 0 and under 2")


def test_a_config_file_may_ask_for_the_devices(tmp_path):
    """It finds those that the run will have."""
    path = tmp_path / "own.py"
    path.write_text(
        "import jax\nfrom jaxep.configs.base import get_config as get_base\n\n\n"
        "def get_config():\n    config = get_base()\n"
        "    config.relaxation = 10.0 + jax.local_device_count()\n    return config\n"
    )
    environment = {"JAX_NUM_CPU_DEVICES": "3", "JAX_PLATFORMS": "cpu"}
    refused(train("--config", path, **environment), "config.relaxation = 13.0: must be")
    environment["JAX_NUM_CPU_DEVICES"] = None
    cores = len(os.sched_getaffinity(0))
    refused(train("--config", path, **environment), f"config.relaxation = {10.0 + cores}: must be")


def jaxep(*words):
    command = [sys.executable, "-m", "jaxep.cli", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_commands_are_told_and_a_wrong_one_is_one_line():
    told = jaxep().stdout
    assert told == jaxep("--help").stdout
    for name in COMMANDS:
        assert f"jaxep {name} " in told
    refused(jaxep("trian"), "trian: must be one of train, sweep, ", "; did you mean train?")
    refused(jaxep("train", "--config", GOOD, "--config.beta=-1"), "config.beta = -1.0: must be")
    refused(jaxep("compare"), "arguments are required: RUN (jaxep compare --help tells all)")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name, capsys):
    main([name, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"jaxep {name} ") and len(out.splitlines()) > 4
    assert max(map(len, out.splitlines())) <= 100


def test_the_table_of_runs_needs_no_trainer():
    """Its seconds are those of libraries: no network, no checkpoint, no data set is imported."""
    program = (
        "import sys; from jaxep.cli import main\n"
        "try:\n    main(['compare', 'nothere'])\n"
        "except SystemExit:\n    print([m for m in sys.modules if m.startswith(\n"
        "        ('jaxep.nets', 'jaxep.training', 'flax', 'orbax', 'matplotlib'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "error: nothere: no such folder\n")


def test_a_work_directory_elsewhere_is_one_line(tmp_path):
    refused(train("--config", GOOD, "--workdir=gs://bucket/x", cwd=tmp_path), "must be a directory")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("platform", ["cuda", "garbage"])
def test_a_platform_that_is_not_there_is_one_line(platform, tmp_path):
    result = train("--config", GOOD, "--workdir", tmp_path / "run", JAX_PLATFORMS=platform)
    refused(result, f"JAX_PLATFORMS = {platform}: there is no such device here")


def test_the_script_of_the_checkout_needs_no_directory_on_the_path(tmp_path):
    command = [sys.executable, "-P", str(ROOT / "train.py"), "--config", "digits_le"]
    result = subprocess.run(
        [*command, "--config.beta=-1"], cwd=tmp_path, capture_output=True, text=True
    )
    refused(result, "config.beta = -1.0")


def test_the_script_says_how_to_install_what_is_missing(tmp_path):
    """Isolated, with nothing but Python's own library and the checkout."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import train"
    bare = [sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(bare, capture_output=True, text=True)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "No module named" in result.stderr and "pip install -e ." in result.stderr
