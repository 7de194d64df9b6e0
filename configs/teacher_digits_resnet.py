"""A small VGG on digits by backprop whose blocks have the shapes of digits_resnet_kd's."""

from ml_collections import ConfigDict

from jaxep.configs.teacher_digits import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_digits_resnet"
    config.conv = "16 M 32 M 64 M"
    config.epochs = 16
    return config
