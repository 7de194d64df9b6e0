"""The net of digits_le, everything the same, without intermediate signals."""

from ml_collections import ConfigDict

from jaxep.configs.digits_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_std"
    config.signal = "none"
    config.signal_layers = ()
    config.kappa = 0.0
    return config
