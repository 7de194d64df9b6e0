"""Holomorphic EP on digits."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_holomorphic"
    config.dataset = "digits"
    config.conv = "16 32 A"
    config.hidden = (64,)
    config.conv_activation = "soft_clip"
    config.dense_activation = "soft_clip"
    config.gain = 3.0
    config.ep_variant = "holomorphic"
    config.points = 4
    config.beta = 1.0
    config.t_free = 60
    config.t_nudge = 30
    config.relaxation = 1.0
    config.learning_rates = 0.1
    config.batch_size = 26
    config.epochs = 20
    return config
