"""The net of digits_resnet_le without signals."""

from ml_collections import ConfigDict

from jaxep.configs.digits_resnet_le import get_config as get_le


def get_config() -> ConfigDict:
    config = get_le()
    config.name = "digits_resnet_std"
    config.signal = "none"
    config.signal_layers = ()
    config.kappa = 0.0
    return config
