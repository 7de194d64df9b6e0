"""8 weighted layers on digits with local errors: the first command of the README."""

from ml_collections import ConfigDict

from configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_le"
    config.dataset = "digits"
    config.conv = "32 M 32 32 M 64 64 64"
    config.hidden = (64,)
    config.signal = "le"
    config.signal_layers = (1, 3, 5)
    config.kappa = 0.3
    config.kappa_schedule = "constant"
    config.beta = 0.1
    config.t_free = 20
    config.t_nudge = 8
    config.order = "alternating"
    config.relaxation = 1.5
    config.learning_rates = (0.002,) * 8
    config.batch_size = 20
    config.epochs = 40
    return config
