"""A residual net of 4 blocks on the 3000 CIFAR-10 images of cifar10_small_le, local errors.

The channels are an eighth of Hopfield-ResNet13; its twins are cifar10_small_resnet_std and _kd.
Not tuned, and the signals make little difference in 8 epochs: 21.9 % of the test images without,
25.8 % with local errors, 24.8 % distilled, one seed. With gain 0.8 and plain std the first epoch
overflows.
"""

from ml_collections import ConfigDict

from jaxep.configs.digits_resnet_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_small_resnet_le"
    config.dataset = "cifar10"
    config.train_size = 3000
    config.test_size = 1000
    config.std_scale = 3.0
    config.augment = False
    config.conv = "R16 R32 R64 R64"
    config.gain = 0.7
    config.signal_layers = ("res1_b", "res2_b", "res3_b")
    config.epochs = 8
    return config
