"""A predictive coding net of 8 weighted layers on digits, trained by EP (Kerjan et al. 2026).

The free phase is a forward pass, so t_free is 0; 8 sweeps from the output downwards are as many as
there are layers.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_pc"
    config.dataset = "digits"
    config.conv = "32 32 M 64 64 M 64 64"
    config.hidden = (64,)
    config.system = "predictive_coding"
    config.conv_activation = "relu"
    config.dense_activation = "relu"
    config.output_activation = "linear"
    config.output_loss = "squared_error"
    config.gain = 1.7
    config.beta = 0.02
    config.t_free = 0
    config.t_nudge = 8
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = 0.01
    config.nesterov = True
    config.weight_decay = 3e-4
    config.batch_size = 26
    config.epochs = 22
    return config
