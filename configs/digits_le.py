"""8 weighted layers on digits with local errors: the first command of the README.

Found on the validation split, see benchmarks/results/digits_search.json. A large β keeps the
estimate bounded where the two nudged phases end in different minima, and a larger rate
of the readout helped.
"""

from ml_collections import ConfigDict

from configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_le"
    config.dataset = "digits"
    config.augment = False
    config.conv = "16 32 M 32 32 M 64 64"
    config.hidden = (64,)
    config.signal = "le"
    config.signal_layers = (0, 1, 3, 5)
    config.kappa = 0.5
    config.kappa_schedule = "constant"
    config.beta = 1.0
    config.t_free = 12
    config.t_nudge = 6
    config.order = "alternating"
    config.learning_rates = (0.004,) * 7 + (0.03,)
    config.weight_decay = 3e-3
    config.batch_size = 20
    config.epochs = 18
    return config
