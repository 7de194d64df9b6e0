"""VGG-10-KD on CIFAR-100 (Tables 1, 6): 63.68 % in the paper, teacher VGG-16."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "vgg10_kd"
    config.dataset = "cifar100"
    config.conv = "64 M 128 M 256 256 M 512 512 M 512 512 M"
    config.hidden = (512,)
    config.init_states = "uniform"
    config.beta = 0.5
    config.t_free = 130
    config.t_nudge = 50
    config.learning_rates = (0.03,) * 2 + (0.05,) * 6 + (0.025,) * 2
    config.batch_size = 128
    config.signal = "kd"
    config.signal_layers = (0, 1, 3, 5, 7)
    config.kappa = 0.85
    config.teacher = "configs/teacher_vgg16_cifar100.py"
    return config
