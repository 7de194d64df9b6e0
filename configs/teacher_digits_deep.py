"""A VGG of three blocks on digits by backprop, the teacher of the distilled nets in benchmarks."""

from ml_collections import ConfigDict

from jaxep.configs.teacher_digits import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "teacher_digits_deep"
    config.conv = "32 M 32 M 64 M"
    config.epochs = 8
    return config
