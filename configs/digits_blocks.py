"""12 weighted layers on digits in 4 EP blocks joined by batch norm (Nest & Ernoult 2024).

The layers of digits_deep_std. Not tuned to the end, and not measured on the test split: seed 0 ends
at 79.2 % on the validation split (80.4 % in training). With gain 1.0, rates of 0.01 (readout 0.03)
and β 0.1 or 1 training climbed to 48 % and 83 % and fell back to chance. At the best weights of
this run β 0.02 gives every kernel a gradient of cosine 0.98 or more to that of the unrolled net.
"""

from ml_collections import ConfigDict

from jaxep.configs.digits_deep_std import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_blocks"
    config.task = "blocks"
    config.blocks = 4
    config.gain = 0.5
    config.beta = 0.02
    config.learning_rates = 0.01
    config.weight_decay = 3e-4
    config.epochs = 20
    return config
