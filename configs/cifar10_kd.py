"""The net of cifar10_le, distilled from the blocks of a teacher that sees all of CIFAR-10.

62.2 % of the test images after 6 epochs; teacher 87.0 %. One seed (`python -m benchmarks cifar10`).
It starts more slowly than local errors do (45.2 against 51.8 % after the first epoch). What
digits_deep_kd has (β 0.2, τ 4, relaxation 1.5, a quarter of the rates, four times the decay) gave
19.4 % after the first epoch.
"""

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
