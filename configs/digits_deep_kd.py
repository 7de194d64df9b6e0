"""11 weighted layers on digits that distil the blocks of a teacher, which is trained first.

91.8 ± 1.7 % of the test images over three seeds (`python -m benchmarks distillation`). Beside the
nets with local errors: a β ten times smaller, over-relaxed phases, a quarter of the rates and four
times the decay. With their decay, 40 epochs and one seed τ 1 reached 91.0 % of the validation
split, and τ 4 91.7 %.
"""

from ml_collections import ConfigDict

from jaxep.configs.digits_deep_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_deep_kd"
    config.conv = "32 32 M 32 32 32 M 64 64 64 64 M"
    config.signal = "kd"
    config.signal_layers = (1, 4, 8)
    config.kappa = 10.0
    config.tau = 4.0
    config.beta = 0.2
    config.relaxation = 1.5
    config.learning_rates = (0.00125,) * 10 + (0.0075,)
    config.weight_decay = 2.4e-2
    config.teacher = "configs/teacher_digits_deep.py"
    config.train_teacher = True
    config.batch_size = 26
    config.epochs = 50
    return config
