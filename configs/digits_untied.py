"""Digits with feedback weights of their own, by EP that is exact without an energy.

Scurria et al. 2026 (`core.fields`), and the naive contrast beside it. Validation accuracy, seed 0,
these settings in all four runs:

                                  alignment 0    alignment 0.01
    field_correction True            98.6 %          96.9 %
    field_correction False           90.3 %          87.2 %

Without an energy the free phase need not settle: with relaxation 1 the sweeps end at a
residual of 6e-2 and 97.2 % (alignment 0.01, rate 0.06, 16 epochs: 9e-4), with 0.6 at 1e-2.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_untied"
    config.dataset = "digits"
    config.conv = "32 M 64 M"
    config.hidden = (64,)
    config.system = "vector_field"
    config.gain = 0.6
    config.beta = 0.1
    config.t_free = 40
    config.t_nudge = 20
    config.relaxation = 0.6
    config.learning_rates = 0.04
    config.weight_decay = 3e-4
    config.batch_size = 26
    config.epochs = 22
    return config
