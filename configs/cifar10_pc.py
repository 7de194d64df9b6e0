"""A predictive coding net on CIFAR-10: VGG-7's convolutions at half width (Kerjan et al. 2026).

Not trained to the end yet: 59.7 % of the test images after the first epoch, 320 s on a shared core.
With gain 1.7 the first updates overflow.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_pc"
    config.std_scale = 1.0
    config.conv = "32 M 64 M 128 M 256 M 256 M"
    config.hidden = ()
    config.system = "predictive_coding"
    config.conv_activation = "relu"
    config.output_activation = "linear"
    config.output_loss = "squared_error"
    config.gain = 1.0
    config.beta = 0.02
    config.t_free = 0
    config.t_nudge = 5
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = 0.04
    config.nesterov = True
    config.weight_decay = 3e-4
    config.batch_size = 16
    config.epochs = 16
    config.checkpoint_every = 500
    return config
