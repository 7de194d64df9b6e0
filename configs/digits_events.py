"""Event-driven EP on digits (draft)."""

from ml_collections import ConfigDict

from jaxep.configs.base import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "digits_events"
    config.dataset = "digits"
    config.conv = "16 A 32 A"
    config.hidden = (64,)
    config.gain = 0.7
    config.beta = 1.0
    config.t_free = 16
    config.t_nudge = 8
    config.solver = "event_driven"
    config.event_step = 1 / 64
    config.relaxation = 1.0
    config.learning_rates = 0.03
    config.weight_decay = 1e-3
    config.batch_size = 26
    config.epochs = 22
    return config
