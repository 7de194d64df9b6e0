"""VGG-19 on CIFAR-10 by backprop, a teacher: 93.37 % in the paper."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_vgg19_cifar10"
    config.task = "teacher"
    config.dataset = "cifar10"
    config.std_scale = 1.0
    config.conv = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"
    config.hidden = (512,)
    config.learning_rates = (0.1,)
    config.weight_decay = 5e-4
    config.batch_size = 128
    config.epochs = 200
    return config
