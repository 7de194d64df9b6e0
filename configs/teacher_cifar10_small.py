"""A quarter-width VGG on the 3000 CIFAR-10 images of cifar10_small_le by backprop, a teacher.

It sees no image that its students do not see.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_cifar10_small"
    config.task = "teacher"
    config.train_size = 3000
    config.test_size = 1000
    config.std_scale = 1.0
    config.conv = "16 16 M 32 32 M 64 64 M 128 128 M 128 128 M"
    config.hidden = (128,)
    config.learning_rates = (0.05,)
    config.weight_decay = 5e-4
    config.batch_size = 50
    config.epochs = 25
    return config
