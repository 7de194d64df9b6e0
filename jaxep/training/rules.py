"""What a key of the settings may be: a kind makes its type of a value, a rule allows some."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxep.run.errors import SettingsError

# One number for all weights, one for each by position, or by name ("default": all others).
PerWeight = float | tuple[float, ...] | dict[str, float]
# Layers by index or by name.
Layers = tuple[int | str, ...]

# Computations are in float32: what is beyond it would be an infinity there.
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
# The least number of float32 that XLA does not take for 0.
TINY = 2.0**-126
LARGEST_SEED = 2**32 - 1


class Rule(NamedTuple):
    """What one key allows: a test of its value, of the right type already, and its words."""

    allowed: str
    test: Callable[[Any], bool]


def one_of(*values: str) -> Rule:
    """These words and no others."""
    return Rule(f"one of {', '.join(values)}", lambda value: value in values)


def at_least(least: int) -> Rule:
    """A count."""
    # Counts become int32 in compiled loops; a larger one is refused here, not by XLA.
    allowed = f"an integer of at least {least} and under 2**31"
    return Rule(allowed, lambda value: least <= value < 2**31)


def each(rule: Rule) -> Rule:
    """The same rule for every number of a `PerWeight`."""
    allowed = f"{rule.allowed}, a tuple of such, or such by the names of weights"
    return Rule(allowed, lambda value: all(map(rule.test, numbers(value))))


def numbers(value: PerWeight) -> tuple[float, ...]:
    """All numbers of a value for each weight, in the order given."""
    if isinstance(value, dict):
        return tuple(value.values())
    return value if isinstance(value, tuple) else (value,)


ANY = Rule("", lambda value: True)
POSITIVE = Rule("a number over 0", lambda value: value >= TINY)
NOT_NEGATIVE = Rule("a number of at least 0", lambda value: value >= 0)
UNDER_ONE = Rule("a number of at least 0 and under 1", lambda value: 0 <= value < 1)
UP_TO_ONE = Rule("a number over 0 and at most 1", lambda value: TINY <= value <= 1)
UNDER_TWO = Rule("a number over 0 and under 2", lambda value: TINY <= value < 2)
SEED = Rule(f"an integer from 0 to {LARGEST_SEED}", lambda value: 0 <= value <= LARGEST_SEED)
NEURONS = Rule("a tuple of integers over 0", lambda value: all(n > 0 for n in value))
# The name becomes a directory of runs/: one below it, and no other.
NAME = Rule(
    "a non-empty text without / or \\, and not . or ..",
    lambda value: bool(value) and not {"/", "\\"} & set(value) and value not in (".", ".."),
)


class Kind(NamedTuple):
    """A type of values: its words, and what makes it of a value; None where nothing does."""

    words: str
    convert: Callable[[Any], Any]


def _plain(value: Any) -> Any:
    """A number of numpy as Python's, an array as a list."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and value.isprintable() else None


def _flag(value: Any) -> bool | None:
    value = _plain(value)
    return value if isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    value = _plain(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if abs(value) <= LARGEST_FLOAT else None
    except OverflowError:  # an integer beyond the range of float64
        return None


def _tuple(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...] | None]:
    """A list as a tuple, and a single item as a tuple of it."""

    def converted(value: Any) -> tuple[Any, ...] | None:
        value = _plain(value)
        items = [convert(v) for v in (value if isinstance(value, (list, tuple)) else (value,))]
        return None if any(item is None for item in items) else tuple(items)

    return converted


def _layer(value: Any) -> int | str | None:
    return _text(value) if isinstance(value, str) else _integer(value)


def _per_weight(value: Any) -> PerWeight | None:
    value = _plain(value)
    if isinstance(value, (Mapping, ConfigDict)):
        pairs = [(_text(name), _real(number)) for name, number in value.items()]
        named = {name: number for name, number in pairs if name and number is not None}
        # Sorted: which was named first makes no other configuration.
        return dict(sorted(named.items())) if named and len(named) == len(pairs) else None
    return _tuple(_real)(value) if isinstance(value, (list, tuple)) else _real(value)


KINDS: dict[Any, Kind] = {
    str: Kind("a text of printable characters", _text),
    int: Kind("an integer", _integer),
    bool: Kind("True or False", _flag),
    float: Kind("a finite number in float32", _real),
    tuple[int, ...]: Kind("a tuple of integers", _tuple(_integer)),
    Layers: Kind("a tuple of integers or names of layers", _tuple(_layer)),
    PerWeight: Kind(
        "a finite number in float32, a tuple of such, or such by the names of weights", _per_weight
    ),
}


def refuse(key: str, value: Any, allowed: str) -> SettingsError:
    """The error of one bad value, in one line."""
    return SettingsError(f"config.{key} = {shown(value)}: {short(allowed)}")


def shown(value: Any) -> str:
    """A value as it is written, short enough to stand in a sentence."""
    try:
        return short(repr(value))
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a very large {type(value).__name__}"


def short(text: str) -> str:
    """A text in one line, and cut where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."
