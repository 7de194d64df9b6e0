"""A digit as a sequence of its 8 rows, retrieved by a projection layer (Bal & Sengupta 2023).

97.5 % of the test images, seed 0. On the validation split 98.3 %; an MLP of as many neurons on the
same images, with output neurons and a squared error, has 98.3 % too. Nothing tells where a row
stands but `places`, which is not in the paper: without it 88.2 % (with a rate of 0.02 for the
projection; 97.6 % with it there).
"""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_sequence"
    config.dataset = "digits"
    config.system = "sequence"
    config.conv = ""
    config.hidden = (256,)
    config.places = 2.0
    config.gain = {"projection": 3.0, "default": 1.0}
    config.beta = 0.5
    config.t_free = 60
    config.t_nudge = 30
    config.relaxation = 1.0
    config.optimizer = "adam"
    config.learning_rates = {"projection": 0.005, "default": 0.002}
    config.weight_decay = 0.0
    config.batch_size = 32
    config.epochs = 100
    return config
