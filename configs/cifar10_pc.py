"""A predictive coding net on CIFAR-10: VGG-7's convolutions at half width (Kerjan et al. 2026).

86.5 % of the test images after 16 epochs, backpropagation in the same net 86.6 %. In 30 epochs with
one nudged phase (--config.epochs=30 --config.ep_variant=random_sign) 88.5 %, backpropagation 88.4.
One seed; 1.7 and 2.2 hours of one core beside other work (`python -m benchmarks cifar10`).
With gain 1.7 the first updates overflow.
"""

from ml_collections import ConfigDict

from jaxep.configs.digits_pc import get_config as get_base


def get_config() -> ConfigDict:
    config = get_base()
    config.name = "cifar10_pc"
    config.dataset = "cifar10"
    config.std_scale = 1.0
    config.conv = "32 M 64 M 128 M 256 M 256 M"
    config.hidden = ()
    config.gain = 1.0
    config.t_nudge = 5
    config.learning_rates = 0.04
    config.batch_size = 16
    config.epochs = 16
    config.checkpoint_every = 500
    return config
