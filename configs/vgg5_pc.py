"""A predictive coding net on CIFAR-10: VGG-5 of Kerjan et al. 2026, 92.2 % there by centered EP.

Not trained yet. Squared error, as in that row of theirs.
"""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_pc import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg5_pc"
    config.conv = "128 256 M 512 M 512 M 512 M"
    config.epochs = 100
    return config
