"""A VGG whose blocks have the shapes of cifar10_small_resnet_kd, on the same 3000 images."""

from ml_collections import ConfigDict

from jaxep.configs.teacher_cifar10_small import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_cifar10_small_resnet"
    config.conv = "16 16 M 32 32 M 64 64 M 64 64 M"
    return config
