"""The net of vgg13_le by standard EP, without intermediate signals: the baseline."""

from ml_collections import ConfigDict

from jaxep.configs.vgg13_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg13_std"
    config.signal = "none"
    config.signal_layers = ()
    config.kappa = 0.0
    return config
