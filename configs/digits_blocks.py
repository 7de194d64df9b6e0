"""12 weighted layers on digits in 4 EP blocks joined by batch norm (Nest & Ernoult 2024).

The layers of digits_deep_std. Two runs collapsed to chance from the learning rate: 0.01 at batches
of 26 after 3 epochs (38 % then; the hard sigmoids of the last block end at 0), and gain 1.0 with
rates of 0.01 (readout 0.03) and β 0.1 or 1. hard_tanh in their place does not settle (residual 0.1
to 0.2). At the best weights of a run β 0.02 gives every kernel a gradient of cosine 0.98 or more to
that of the unrolled net. `python -m benchmarks systems` has what these settings reach.
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
    config.learning_rates = 0.005
    config.batch_size = 26
    config.weight_decay = 3e-4
    config.epochs = 20
    return config
