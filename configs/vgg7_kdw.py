"""VGG-7-KDW on CIFAR-10 (Tables 3, 5): 87.93 % in the paper, teacher VGG-19."""

from ml_collections import ConfigDict

from jaxep.configs.vgg7_kd import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg7_kdw"
    config.beta = 0.5
    config.t_free = 100
    config.t_nudge = 50
    config.batch_size = 128
    config.signal = "kdw"
    config.kappa = 0.15
    return config
