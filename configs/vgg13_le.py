"""VGG-13-LE on CIFAR-100 (Tables 1, 6): 62.22 % in the paper.

Υ is that of Table 6. The text's "last layer of the 2nd through 5th blocks" would be (3, 5, 7, 9).
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg13_le"
    config.dataset = "cifar100"
    config.conv = "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M"
    config.hidden = (512, 512)
    config.gain = 0.5
    config.beta = 1.0
    config.t_free = 140
    config.t_nudge = 50
    config.learning_rates = (0.03,) * 2 + (0.05,) * 8 + (0.025,) * 3
    config.batch_size = 128
    config.signal = "le"
    config.signal_layers = (1, 3, 5, 7)
    config.kappa = 0.85
    return config
