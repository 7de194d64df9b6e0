"""A predictive coding net on CIFAR-10: VGG-7's convolutions at half width (Kerjan et al. 2026).

Not trained to the end yet: 59.7 % of the test images after the first epoch, 320 s on a shared core.
With gain 1.7 the first updates overflow.
"""

from ml_collections import ConfigDict

from jaxep.configs.digits_pc import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_pc"
    config.dataset = "cifar10"
    config.std_scale = 1.0
    config.conv = "32 M 64 M 128 M 256 M 256 M"
    config.hidden = ()
    config.gain = 1.0
    config.t_nudge = 5
    config.learning_rates = 0.04
    config.batch_size = 16
    config.epochs = 16
    config.checkpoint_every = 500
    return config
