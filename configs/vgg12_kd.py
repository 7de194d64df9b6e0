"""VGG-12-KD on CIFAR-100 (Tables 1, 6): 64.75 % in the paper, teacher VGG-15."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg12_kd"
    config.dataset = "cifar100"
    config.conv = "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M"
    config.hidden = (512,)
    config.conv_activation = "relu"
    config.gain = 0.5
    config.init_states = "uniform"
    config.beta = 1.0
    config.t_free = 100
    config.t_nudge = 15
    config.learning_rates = (0.03,) * 2 + (0.05,) * 8 + (0.025,) * 2
    config.batch_size = 256
    config.signal = "kd"
    config.signal_layers = (1, 3, 5, 7, 9)
    config.kappa = 0.65
    config.kappa_schedule = "linear"
    config.teacher = "configs/teacher_vgg15_cifar100.py"
    return config
