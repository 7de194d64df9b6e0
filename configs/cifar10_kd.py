"""The net of cifar10_le, distilled from the blocks of a teacher that sees all of CIFAR-10."""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_kd"
    config.signal = "kd"
    config.kappa = 10.0
    config.t_free = 12
    config.t_nudge = 6
    config.relaxation = 1.2
    config.learning_rates = (0.002,) * 6 + (0.01,)
    config.weight_decay = 2e-3
    config.teacher = "configs/teacher_cifar10.py"
    config.train_teacher = True
    return config
