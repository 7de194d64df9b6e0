"""Energies of the literature, a short file each with its equation on top."""

from jaxep.energies.predictive_coding import predictive_coding

__all__ = ["predictive_coding"]
