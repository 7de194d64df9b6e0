"""Settings say networks: rates and gains by weight, every kind of wiring, layers of a signal."""

import jax
import jax.numpy as jnp
import pytest

from jaxep.run.errors import UserError
from jaxep.training.networks import build_network, by_weight, signal_layers
from jaxep.training.settings import Settings
from jaxep.training.sources import SPECS


def network(settings):
    """The network of the settings with its output."""
    spec = SPECS[settings.dataset]
    return build_network(settings, spec.image_shape, spec.classes)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (0.1, (0.1, 0.1, 0.1)),
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
        ({"default": 1, "fc1": 2}, (1, 2, 1)),
    ],
)
def test_rates_are_given_once_for_all_by_position_or_by_name(rates, expected):
    settings = Settings(dataset="digits", conv="4", hidden=(3,), learning_rates=rates)
    names = network(settings).weight_names
    got = by_weight("learning_rates", settings.learning_rates, names)
    assert got == dict(zip(("conv1", "fc1", "readout"), expected, strict=True))


def test_gains_by_name_scale_the_initial_weights_of_their_edge():
    def largest(gain):
        model = network(Settings(dataset="digits", conv="8", hidden=(64,), gain=gain))
        params = model.init_params(jax.random.key(0))
        kernels = {**params["edges"], **params["heads"]}
        return {name: float(jnp.abs(own["kernel"]).max()) for name, own in kernels.items()}

    plain, scaled = largest(1.0), largest({"default": 1.0, "fc1": 0.5})
    assert scaled["fc1"] == pytest.approx(plain["fc1"] / 2)
    assert (scaled["conv1"], scaled["readout"]) == (plain["conv1"], plain["readout"])
    by_place = largest((1.0, 0.5, 2.0))
    assert by_place["readout"] == pytest.approx(2 * plain["readout"])
    assert by_place["fc1"] == scaled["fc1"]


NETWORKS = [
    ({"conv": "", "hidden": (6, 5)}, ["fc1", "fc2", "readout"]),
    ({"conv": "4s2 A", "hidden": ()}, ["conv1", "readout"]),
    ({"conv": "R4", "hidden": ()}, ["res1_a", "res1_b", "res1_skip", "readout"]),
    (
        {"conv": "", "hidden": (6, 5), "wiring": "all", "output_loss": "squared_error"},
        [
            *("fc1", "fc2", "image_fc2", "output", "fc1_output", "image_output"),
        ],
    ),
    ({"system": "sequence", "conv": "", "hidden": (6,)}, ["projection", "fc1", "readout"]),
    (
        {"system": "energy_transformer", "conv": "", "hidden": ()},
        ["embed", "position", "query", "key", "memory", "readout"],
    ),
    (
        {"system": "energy_transformer", "conv": "", "hidden": (), "heads": 0},
        ["embed", "position", "memory", "readout"],
    ),
]


@pytest.mark.parametrize(("keys", "names"), NETWORKS, ids=[str(n[0]) for n in NETWORKS])
def test_settings_say_networks_of_every_kind(keys, names):
    settings = Settings(dataset="digits", learning_rates=0.1, **keys)
    assert list(network(settings).weight_names) == names


def test_layers_of_a_signal_are_named_or_numbered():
    keys = {"dataset": "digits", "conv": "4 R4 4 M", "hidden": (3,), "signal": "le"}
    named = Settings(signal_layers=("res1_b", "fc1"), **keys)
    numbered = Settings(signal_layers=(2, 4), **keys)
    one = Settings(signal_layers="res1_b", **keys)
    assert signal_layers(named, network(named)) == signal_layers(numbered, network(numbered))
    assert signal_layers(one, network(one)) == ("res1_b",)
    keys |= {"signal": "kd", "teacher": "configs/teacher_digits.py"}
    assert Settings(signal_layers=("res1_b", 3), **keys).signal == "kd"
    with pytest.raises(UserError, match=r"must be out of \[2, 3\]"):
        Settings(signal_layers=(0,), **keys)


TOKENS = {
    "sequence": {"conv": "", "hidden": (6,), "system": "sequence"},
    "transformer": {"conv": "", "hidden": (), "system": "energy_transformer"},
}
REFUSED = [
    ("sequence", {"conv": "4"}, "config.conv = '4': must be empty with system sequence, whose"),
    ("sequence", {"hidden": ()}, "config.hidden = (): a network needs a hidden layer"),
    ("sequence", {"wiring": "all"}, "config.wiring = 'all': must be chain with system sequence"),
    ("transformer", {"hidden": (3,)}, "config.hidden = (3,): must be () with system energy_tr"),
    ("transformer", {"heads": 3}, "config.heads = 3: must divide dim = 64, or be 0"),
    ("transformer", {"dim": 2**31 - 1, "heads": 1}, "config.dim = 2147483647: too large, at most"),
    ("transformer", {"output_loss": "squared_error"}, "must be cross_entropy with system energy_"),
    ("transformer", {"gain": {"value": 1.0, "default": 1.0}}, "there is no weight value; there"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_systems_over_tokens_refuse_what_they_do_not_build(kind, changes, message):
    with pytest.raises(UserError) as error:
        Settings(dataset="digits", learning_rates=0.1, **{**TOKENS[kind], **changes})
    assert message in str(error.value)


def test_a_signal_reads_tokens():
    keys = {"dataset": "digits", "learning_rates": 0.1, "signal": "le"}
    settings = Settings(signal_layers=("tokens",), **keys, **TOKENS["transformer"])
    assert signal_layers(settings, network(settings)) == ("tokens",)
    settings = Settings(signal_layers=(0, "fc1"), **keys, **TOKENS["sequence"])
    assert signal_layers(settings, network(settings)) == ("projection", "fc1")
