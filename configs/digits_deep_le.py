"""12 weighted layers on digits with local errors."""

from ml_collections import ConfigDict

from jaxep.configs.digits_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_deep_le"
    config.conv = "32 32 M 32 32 32 M 64 64 64 64 64"
    config.augment = False
    config.gain = 1.0
    config.signal_layers = (0, 1, 3, 5, 7, 9)
    config.kappa = 3.0
    config.learning_rates = (0.005,) * 11 + (0.03,)
    config.weight_decay = 6e-3
    config.batch_size = 50
    config.epochs = 40
    return config
