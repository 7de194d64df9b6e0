"""Continual EP on digits: a dense net whose weights move in each nudged sweep (Ernoult et al. 2020).

SGD at `continual_rate`, with neither momentum nor decay, is the published method: 96.9 % (test, seed
0, 18 s on a shared CPU; 97.5 % seed 1), and 96.7 % (97.5 %) by estimator ep, one_sided, the same
else. On the validation split both have 95 to 96 % at rates of 0.005, 0.01 and 0.02. Continual EP has
96 % at 0.025 and fails at 0.03 and 0.05 (10 %), where ep has 95 %: what a nudge does to a layer comes
back to it through the weights that it moves. The limit goes with β (at β 1: 0.04 trains, 0.06 fails;
at β 2: 0.1 trains), so rate * 32 / β must stay under about 1.7, where 32 is the largest eigenvalue of
the inputs' second moments. The paper, too, takes rates 14 to 28 times smaller than for EP.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_continual"
    config.dataset = "digits"
    config.augment = False
    config.conv = ""
    config.hidden = (128,)
    config.output_loss = "squared_error"
    config.estimator = "continual"
    config.ep_variant = "one_sided"
    config.beta = 0.5
    config.t_free = 20
    config.t_nudge = 10
    config.solver = "fixed"
    config.relaxation = 1.0
    config.learning_rates = 0.02
    config.continual_rate = 0.02
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.lr_schedule = "constant"
    config.batch_size = 26
    config.epochs = 120
    return config
