"""A small VGG on digits by backprop, the teacher of digits_kd: seconds on a CPU."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_digits"
    config.task = "teacher"
    config.dataset = "digits"
    config.augment = False
    config.conv = "32 M 64 M"
    config.hidden = (64,)
    config.learning_rates = (0.05,)
    config.weight_decay = 5e-4
    config.batch_size = 50
    config.epochs = 8
    return config
