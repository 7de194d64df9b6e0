"""The VGG-5 of Kerjan et al. 2026, a predictive coding net on CIFAR-10: 92.2 % there.

Five convolutions, as its name there counts, and a dense layer; squared error. Not trained here yet.
"""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_pc import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg6_pc"
    config.conv = "128 256 M 512 M 512 M 512 M"
    config.epochs = 100
    return config
