"""VGG-5 on CIFAR-10 by centered EP, as in Laborieux et al. 2021: 88.32 % there.

Checked against the README of their code: its command for the symmetric estimate with a cross
entropy readout has this net, T, learning rates, weight decay, momentum, batch, epochs, and β = 1.
(Its commands for the squared error have β = 0.5 and 30 nudged steps.)
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg5_std"
    config.conv = "128 M 256 M 512 M 512v M"
    config.hidden = ()
    config.beta = 1.0
    config.t_free = 250
    config.t_nudge = 25
    config.learning_rates = (0.25, 0.15, 0.1, 0.08, 0.05)
    config.batch_size = 128
    config.epochs = 120
    return config
