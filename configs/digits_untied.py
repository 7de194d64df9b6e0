"""draft"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_untied"
    config.dataset = "digits"
    config.conv = "32 M 64 M"
    config.hidden = (64,)
    config.system = "vector_field"
    config.beta = 0.1
    config.t_free = 40
    config.t_nudge = 20
    config.learning_rates = 0.03
    config.weight_decay = 3e-4
    config.batch_size = 26
    config.epochs = 22
    return config
