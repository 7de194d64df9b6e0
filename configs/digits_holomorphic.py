"""Holomorphic EP on digits, with a β at which two real points no longer give the gradient.

Laborieux & Zenke 2022 (arXiv 2209.00530): smooth σ, average pools, β e^{2πim/4}. On the validation
split, seed 0, accuracy (training loss) after 8 epochs at β 2: 93.8 % (0.398) with N = 4, 94.1 %
(0.362) with N = 8, and 91.7 % (0.493) with the two points of centered. At β 1 they train alike:
94.1 % with N = 4, 94.4 % centered. 97.2 % of the test images.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_holomorphic"
    config.dataset = "digits"
    config.conv = "16 32 A"
    config.hidden = (64,)
    config.conv_activation = "soft_clip"
    config.dense_activation = "soft_clip"
    config.gain = 3.0
    config.ep_variant = "holomorphic"
    config.points = 4
    config.beta = 2.0
    config.t_free = 60
    config.t_nudge = 30
    config.relaxation = 1.0
    config.learning_rates = 0.1
    config.batch_size = 26
    config.epochs = 8
    return config
