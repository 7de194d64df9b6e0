"""x"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_transformer"
    config.dataset = "digits"
    config.system = "energy_transformer"
    config.conv = ""
    config.hidden = ()
    config.beta = 0.1
    config.t_free = 60
    config.t_nudge = 30
    config.relaxation = 1.0
    config.optimizer = "adam"
    config.learning_rates = 0.002
    config.weight_decay = 0.0
    config.batch_size = 32
    config.epochs = 20
    return config
