"""The precisions in which a device computes: of its products, and of the states."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.shared.workload import Problem


class Precision(NamedTuple):
    """How numbers are rounded.

    Attributes:
        products: of float32 factors, as `jax.default_matmul_precision` takes it.
        states: type of the input and of the states, config.precision.
    """

    products: str
    states: Any

    @contextmanager
    def of(self, p: Problem) -> Iterator[Problem]:
        """A problem with its input in the type of the states; within, products are rounded so."""
        with jax.default_matmul_precision(self.products):
            yield p._replace(x=p.x.astype(self.states))


# As train.py computes unless it is told otherwise; as JAX does on a GPU by itself (a CPU multiplies
# in float32 all the same); config.precision = "bfloat16".
PRECISIONS = {
    "float32": Precision("highest", jnp.float32),
    "TF32": Precision("tensorfloat32", jnp.float32),
    "bfloat16": Precision("highest", jnp.bfloat16),
}
