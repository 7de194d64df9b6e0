"""VGG-7-LE at a quarter width on 3000 real CIFAR-10 images: minutes on a CPU."""

from ml_collections import ConfigDict

from jaxep.configs.vgg7_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_small_le"
    config.conv = "16 M 32 M 64 M 128 M 128 M"
    config.hidden = (128,)
    config.train_size = 3000
    config.test_size = 1000
    config.signal_layers = (0, 2, 4)
    config.std_scale = 1.0
    config.augment = False
    config.kappa = 1.0
    config.kappa_schedule = "constant"
    config.tau = 1.0
    config.beta = 2.0
    config.t_free = 16
    config.t_nudge = 8
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = (0.004,) * 6 + (0.02,)
    config.weight_decay = 1e-3
    config.batch_size = 26
    config.epochs = 8
    return config
