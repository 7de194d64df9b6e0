"""cifar10_small_resnet_le without signals."""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_small_resnet_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_small_resnet_std"
    config.signal = "none"
    config.signal_layers = ()
    config.kappa = 0.0
    return config
