"""The net of vgg7_le by standard EP, without intermediate signals: the baseline."""

from ml_collections import ConfigDict

from jaxep.configs.vgg7_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg7_std"
    config.signal = "none"
    config.signal_layers = ()
    config.kappa = 0.0
    return config
