"""cifar10_small_resnet_le distilled from the blocks of a teacher, which is trained first."""

from ml_collections import ConfigDict

from jaxep.configs.cifar10_small_resnet_le import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_small_resnet_kd"
    config.signal = "kd"
    config.teacher = "configs/teacher_cifar10_small_resnet.py"
    config.train_teacher = True
    return config
