"""Energies of the literature, a short file each with its equation on top."""

from jaxep.energies.energy_transformer import EnergyTransformer
from jaxep.energies.feedback import feedback
from jaxep.energies.predictive_coding import predictive_coding
from jaxep.energies.sequence import sequence
from jaxep.energies.vector_field import Untied, untied, vector_field

__all__ = [
    "EnergyTransformer",
    "feedback",
    "predictive_coding",
    "sequence",
    "Untied",
    "untied",
    "vector_field",
]
