"""Continual EP on digits (draft)."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_continual"
    config.dataset = "digits"
    config.conv = ""
    config.hidden = (128,)
    config.output_loss = "squared_error"
    config.gain = 1.0
    config.estimator = "continual"
    config.ep_variant = "one_sided"
    config.beta = 0.3
    config.t_free = 20
    config.t_nudge = 10
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = 0.1
    config.continual_rate = 0.1
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.lr_schedule = "constant"
    config.batch_size = 26
    config.epochs = 20
    return config
