"""VGG-7-KD on CIFAR-10 (Tables 1, 5): 89.67 % in the paper, teacher VGG-19."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg7_kd"
    config.conv = "64 M 128 M 256 M 512 M 512 M"
    config.hidden = (512,)
    config.init_states = "uniform"
    config.beta = 0.15
    config.t_free = 250
    config.t_nudge = 60
    config.learning_rates = (0.03,) * 7
    config.batch_size = 64
    config.signal = "kd"
    config.signal_layers = (2, 4)
    config.kappa = 0.65
    config.teacher = "configs/teacher_vgg19_cifar10.py"
    return config
