"""VGG-7-LE at a quarter width on all of CIFAR-10: 63.3 % of the test images after 6 epochs.

One seed, 26 minutes of one CPU core (`python -m benchmarks cifar10`). No augmentation; not tuned.
"""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_small_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_le"
    config.train_size = 0
    config.test_size = 0
    config.epochs = 6
    config.checkpoint_every = 500
    return config
