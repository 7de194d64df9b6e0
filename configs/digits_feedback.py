"""An MLP of 12 weighted layers on digits whose feedback is a fifth of the drive (Liu & Chen 2025).

Weak feedback settles by plain sweeps: over-relaxation would need more of them. λ of the first layer
is 0.2^-10 = 1e7, which float32 just resolves; with 0.1 its contrast is rounded away.
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_feedback"
    config.dataset = "digits"
    config.augment = False
    config.conv = ""
    config.hidden = (64,) * 11
    config.dense_activation = "tanh"
    config.gain = 1.5
    config.system = "feedback"
    config.feedback = 0.2
    config.beta = 0.5
    config.t_free = 60
    config.t_nudge = 30
    config.tol_free = 1e-4
    config.tol_nudge = 1e-5
    config.relaxation = 1.0
    config.learning_rates = 0.01
    config.weight_decay = 5e-3
    config.batch_size = 26
    config.epochs = 20
    return config
