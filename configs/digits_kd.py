"""A net on digits that distils the blocks of a teacher, which is trained first."""

from ml_collections import ConfigDict

from jaxep.configs.digits_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_kd"
    config.conv = "32 M 64 M 64 64"
    config.signal = "kd"
    config.augment = False
    config.gain = 1.0
    config.kappa = 10.0
    config.tau = 1.0
    config.signal_layers = (0, 1)
    config.learning_rates = (0.01,) * 5 + (0.03,)
    config.teacher = "configs/teacher_digits.py"
    config.train_teacher = True
    config.epochs = 35
    return config
