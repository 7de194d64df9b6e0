"""VGG-7-LE at a quarter width on 4000 real CIFAR-10 images: minutes on a CPU."""

from ml_collections import ConfigDict

from configs.vgg7_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_small_le"
    config.conv = "16 M 32 M 64 M 128 M 128 M"
    config.hidden = (128,)
    config.train_size = 4000
    config.test_size = 2000
    config.t_free = 30
    config.t_nudge = 10
    config.order = "alternating"
    config.relaxation = 1.5
    config.batch_size = 50
    config.epochs = 20
    return config
