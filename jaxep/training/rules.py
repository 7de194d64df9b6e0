"""What each key of the settings allows by itself, in one table; settings.py checks how they fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

IMAGE_SHAPES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}


class Rule(NamedTuple):
    """What one key allows: a test of its value, of the right type already, and its words."""

    allowed: str
    test: Callable[[Any], bool]


def _choice(*values: str) -> Rule:
    return Rule(f"one of {', '.join(values)}", lambda value: value in values)


def _at_least(least: int) -> Rule:
    # Counts become int32 in compiled loops; a larger one is refused here, not by XLA.
    allowed = f"an integer of at least {least} and under 2**31"
    return Rule(allowed, lambda value: least <= value < 2**31)


# The least number of float32 that XLA does not take for 0.
TINY = 2.0**-126
POSITIVE = Rule("a number over 0", lambda value: value >= TINY)
NOT_NEGATIVE = Rule("a number of at least 0", lambda value: value >= 0)
ANY = Rule("", lambda value: True)
LARGEST_SEED = 2**32 - 1

RULES: dict[str, Rule] = {
    "name": Rule("a non-empty text without /", lambda value: bool(value) and "/" not in value),
    "task": _choice("ep", "teacher"),
    "seed": Rule(f"an integer from 0 to {LARGEST_SEED}", lambda value: 0 <= value <= LARGEST_SEED),
    "dataset": _choice(*IMAGE_SHAPES),
    "train_size": _at_least(0),
    "test_size": _at_least(0),
    "split": _choice("test", "validation"),
    "std_scale": POSITIVE,
    "hidden": Rule("a tuple of integers over 0", lambda value: all(n > 0 for n in value)),
    "conv_activation": _choice("hard_sigmoid", "relu"),
    "gain": POSITIVE,
    "output_loss": _choice("cross_entropy", "squared_error"),
    "init_states": _choice("zeros", "uniform"),
    "signal": _choice("none", "le", "kd", "kdw"),
    "kappa": NOT_NEGATIVE,
    "kappa_schedule": _choice("constant", "linear", "exponential", "cosine"),
    "kappa_min": NOT_NEGATIVE,
    "kappa_gamma": NOT_NEGATIVE,
    "tau": POSITIVE,
    "softmax_axis": _choice("all", "channel"),
    "estimator": _choice("ep", "bptt", "implicit"),
    "ep_variant": _choice("centered", "one_sided", "random_sign"),
    "beta": POSITIVE,
    "t_free": _at_least(1),
    "t_nudge": _at_least(1),
    "bptt_steps": _at_least(0),
    "solver": _choice("fixed", "tolerance", "fixed_point", "anderson"),
    "tol_free": POSITIVE,
    "tol_nudge": POSITIVE,
    "order": _choice("synchronous", "alternating"),
    "relaxation": Rule("a number over 0 and under 2", lambda value: TINY <= value < 2),
    "precision": _choice("float32", "bfloat16"),
    "micro_batch": _at_least(0),
    "learning_rates": Rule(
        "a tuple of numbers of at least 0", lambda value: all(rate >= 0 for rate in value)
    ),
    "momentum": Rule("a number of at least 0 and under 1", lambda value: 0 <= value < 1),
    "weight_decay": NOT_NEGATIVE,
    "lr_schedule": _choice("constant", "cosine"),
    "batch_size": _at_least(1),
    "eval_batch_size": _at_least(1),
    "epochs": _at_least(1),
    "keep_checkpoints": _at_least(2),
    "checkpoint_every": _at_least(0),
    "on_divergence": _choice("stop", "skip"),
}
