"""x"""

from ml_collections import ConfigDict

from jaxep.configs.digits_deep_std import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_blocks"
    config.task = "blocks"
    config.blocks = 4
    config.learning_rates = 0.01
    config.beta = 0.1
    config.weight_decay = 3e-4
    config.epochs = 20
    return config
