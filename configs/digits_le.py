"""8 weighted layers on digits with local errors: the first command of the README.

Found on the validation split, see benchmarks/results/digits_search.json. A large β keeps the
estimate bounded where the two nudged phases end in different minima; with τ = 1 a layer that
already tells the classes apart is no longer pushed.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_le"
    config.dataset = "digits"
    config.augment = True
    config.conv = "32 32 M 64 64 M 64 64"
    config.hidden = (64,)
    config.gain = 0.7
    config.signal = "le"
    config.signal_layers = (0, 1, 3, 5)
    config.kappa = 2.0
    config.kappa_schedule = "constant"
    config.tau = 1.0
    config.beta = 2.0
    config.t_free = 16
    config.t_nudge = 8
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = (0.01,) * 7 + (0.03,)
    config.weight_decay = 1e-2
    config.batch_size = 26
    config.epochs = 22
    return config
