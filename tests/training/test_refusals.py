"""Every bad value of a key is refused in one line with key and value."""

import numpy as np
import pytest

from jaxep.run.errors import UserError
from jaxep.training.settings import from_config
from tests.training.test_settings import config

BLOCKS = {"task": "blocks", "signal": "none", "signal_layers": ()}
BAD = [
    ({"betta": 1.0}, "config.betta = 1.0: there is no such key; did you mean beta?"),
    ({"beta": "x"}, "config.beta = 'x': must be a finite number in float32"),
    ({"beta": 0.0}, "config.beta = 0.0: must be a number over 0"),
    ({"beta": float("nan")}, "config.beta = nan: must be a finite number in float32"),
    ({"beta": True}, "config.beta = True: must be a finite number in float32"),
    ({"beta": 10**400}, "must be a finite number in float32"),
    ({"t_free": -1}, "config.t_free = -1: must be an integer of at least 0"),
    ({"t_free": 0}, "config.t_free = 0: must be at least 1 where system is not predictive_coding"),
    (
        {"t_free": 0, "system": "predictive_coding", "estimator": "bptt"},
        "config.t_free = 0: must be at least 1 with estimator bptt",
    ),
    (
        {"estimator": "backprop"},
        "config.estimator = 'backprop': needs the system predictive_coding",
    ),
    (
        {"system": "perceptron"},
        "config.system = 'perceptron': must be one of hopfield, predictive_c",
    ),
    ({"alignment": 0.1}, "config.alignment = 0.1: must be 0 where system is not vector_field"),
    (
        {"field_correction": False},
        "config.field_correction = False: must be True where system is not vector_field",
    ),
    (
        {"system": "vector_field", "estimator": "implicit", "field_correction": False},
        "config.field_correction = False: must be True with estimator implicit",
    ),
    ({"feedback": 0.5}, "config.feedback = 0.5: must be 1 where system is not feedback"),
    (
        {"system": "feedback", "feedback": 1.5},
        "config.feedback = 1.5: must be a number over 0 and at most 1",
    ),
    ({"points": 1}, "config.points = 1: must be an integer of at least 2"),
    (
        {"ep_variant": "holomorphic"},
        "config.ep_variant = 'holomorphic': phi takes no complex numbers (Conv: pool = 'max'",
    ),
    (
        {"ep_variant": "holomorphic", "conv": "4 4 A 4 4 A 4 4", "conv_activation": "relu"},
        "config.ep_variant = 'holomorphic': σ of conv1 (relu) uses `max` of complex numbers",
    ),
    (
        {"ep_variant": "holomorphic", "precision": "bfloat16"},
        "config.precision = 'bfloat16': must be another with ep_variant holomorphic",
    ),
    (
        {"ep_variant": "holomorphic", "solver": "event_driven"},
        "config.solver = 'event_driven': must be another with ep_variant holomorphic",
    ),
    ({"t_nudge": -3}, "config.t_nudge = -3: must be an integer of at least 1"),
    ({"t_free": 2.5}, "config.t_free = 2.5: must be an integer"),
    ({"signal_layers": (1, 99)}, "must be different neuron layers out of 0, ..., 6"),
    ({"signal_layers": (1, 1)}, "must be different neuron layers"),
    ({"signal_layers": ()}, "at least one"),
    ({"signal": "none"}, "config.signal_layers = (0, 1, 3, 5): must be () where signal is none"),
    ({"signal_layers": ("conv1", "conv9")}, "(or by name: conv1, conv2, conv3, conv4, conv5, "),
    ({"signal_layers": ("conv1", 0)}, "must be different neuron layers"),
    ({"signal_layers": (0.5,)}, "must be a tuple of integers or names of layers"),
    ({"learning_rates": (0.1,)}, "must be 8 numbers (one per weight: conv1, conv2, "),
    ({"learning_rates": {"conv1": 0.1}}, "has none for conv2, conv3, conv4, conv5, conv6, fc1, "),
    ({"learning_rates": {"default": 0.1, "fc9": 1}}, "there is no weight fc9; there are conv1, "),
    ({"learning_rates": {"default": -0.1}}, "must be a number of at least 0, a tuple of such"),
    ({"learning_rates": {}}, "config.learning_rates = {}: must be a finite number in float32, a "),
    ({"learning_rates": "0.1"}, "config.learning_rates = '0.1': must be a finite number"),
    ({"gain": (1.0, 0.5)}, "config.gain = (1.0, 0.5): must be 8 numbers"),
    ({"gain": 0.0}, "config.gain = 0.0: must be a number over 0"),
    ({"conv": "4 M 4 M 4 M 4 M"}, "1x1 map"),
    ({"conv": "4v 4v 4v 4v"}, "the images are 8x8"),
    ({"conv": "4k4"}, "an even kernel cannot keep the size"),
    ({"conv": "", "hidden": ()}, "a network needs a convolution or a hidden layer"),
    ({"blocks": 2}, "config.blocks = 2: must be 1 where task is not blocks"),
    ({"task": "blocks"}, "config.signal = 'le': must be none with task blocks"),
    (
        {**BLOCKS, "blocks": 9},
        "config.blocks = 9: a network of 7 layers cannot be cut into 9",
    ),
    (
        {**BLOCKS, "conv": "R4 R4", "learning_rates": 0.1, "blocks": 2},
        "config.blocks = 2: edge res2_skip from res1_b passes over res2_a",
    ),
    (
        {**BLOCKS, "system": "vector_field", "learning_rates": 0.1},
        "config.system = 'vector_field': must be one ",
    ),
    ({**BLOCKS, "estimator": "bptt"}, "config.estimator = 'bptt': must be ep or implicit with"),
    ({**BLOCKS, "micro_batch": 8}, "config.micro_batch = 8: must be 0 with task blocks"),
    ({"wiring": "all"}, "config.wiring = 'all': must be chain where conv is not empty"),
    ({"optimizer": "lion"}, "config.optimizer = 'lion': must be one of sgd, adam, adamw"),
    ({"dense_activation": "gelu"}, "must be one of hard_sigmoid, relu, relu6, hard_tanh, tanh"),
    ({"dataset": "imagenet"}, "must be one of digits, cifar10, cifar100, mnist, fashion_mnist, "),
    ({"name": ".."}, "config.name = '..': must be a non-empty text without /"),
    ({"beta": np.float32(0)}, "config.beta = np.float32(0.0): must be a number over 0"),
    ({"seed": np.int64(-1)}, "config.seed = np.int64(-1): must be an integer from 0"),
    ({"t_free": 2**31}, "config.t_free = 2147483648: must be an integer of at least 0 and under"),
    ({"conv": "x" * 5000}, "..."),
    ({"conv": "4 Q"}, "'Q' is neither channels"),
    ({"signal": "kd"}, "must be out of [1, 3]: kd compares layers that end in a pool"),
    ({"signal": "kd", "signal_layers": (1,)}, "signal kd needs the config file of a teacher"),
    ({"relaxation": 2.0}, "config.relaxation = 2.0: must be a number over 0 and under 2"),
    ({"solver": "newton"}, "must be one of fixed, tolerance, fixed_point, anderson, event_driven"),
    ({"estimator": "bptt", "bptt_steps": 99}, "must be at most t_free = "),
    ({"estimator": "bptt", "precision": "bfloat16"}, "must be float32 with estimator bptt"),
    (
        {"estimator": "continual"},
        "config.ep_variant = 'centered': must be one_sided or random_sign with estimator continual",
    ),
    (
        {"estimator": "continual", "ep_variant": "one_sided", "micro_batch": 8},
        "config.micro_batch = 8: must be 0 with estimator continual",
    ),
    ({"continual_rate": 0.0}, "config.continual_rate = 0.0: must be a number over 0"),
    (
        {"solver": "event_driven", "estimator": "implicit"},
        "config.solver = 'event_driven': must be another with estimator implicit",
    ),
    ({"event_step": 0.0}, "config.event_step = 0.0: must be a number over 0"),
    ({"beta": 1e39}, "config.beta = 1e+39: must be a finite number in float32"),
    ({"beta": 1e-45}, "config.beta = 1e-45: must be a number over 0"),
    ({"t_free": 10**5000}, "config.t_free = a very large int: must be an integer of at least 0"),
    ({"name": "a\nb"}, "config.name = 'a\\nb': must be a text of printable characters"),
    ({"name": "x" * 999 + "/"}, "...: must be a non-empty text without /"),
    ({1: 2}, "config.1 = 2: there is no such key"),
    ({"hidden": (2**31 - 1,)}, "too large, at most 2147483647 parameters in all"),
    ({"checkpoint_every": -1}, "config.checkpoint_every = -1: must be an integer of at least 0"),
    ({"on_divergence": "ask"}, "config.on_divergence = 'ask': must be one of stop, skip"),
    (
        {"task": "blocks", "optimizer": "bop"},
        "config.optimizer = 'bop': must be another with task blocks",
    ),
    ({"flip_rate": 0.0}, "config.flip_rate = 0.0: must be a number over 0 and at most 1"),
    ({"flip_threshold": 0.0}, "config.flip_threshold = 0.0: must be a number over 0"),
    ({"scale_rate": -1.0}, "config.scale_rate = -1.0: must be a number of at least 0"),
    ({"skips": 1.5}, "config.skips = 1.5: must be a number over 0 and at most 1"),
    ({"seed": -1}, "must be an integer from 0 to"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_values_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError) as error:
        from_config({**config(), **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    assert str(error.value).startswith("config.")
