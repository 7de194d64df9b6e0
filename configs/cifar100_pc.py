"""The predictive coding net of cifar10_pc on CIFAR-100, with one nudged phase a batch."""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_pc import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar100_pc"
    config.dataset = "cifar100"
    config.ep_variant = "random_sign"
    return config
