"""VGG-7-LE on CIFAR-10 (Tables 1, 5): 88.99 % in the paper."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg7_le"
    config.conv = "64 M 128 M 256 M 512 M 512 M"
    config.hidden = (512,)
    config.beta = 0.25
    config.t_free = 250
    config.t_nudge = 50
    config.learning_rates = (0.03,) * 7
    config.batch_size = 128
    config.signal = "le"
    config.signal_layers = (2, 4)
    config.kappa = 0.65
    return config
