"""Networks as graphs of couplings: builders, couplings, heads, and what to look at in them."""

from jaxep.nets.builders import ACTIVATIONS, hopfield, mlp, resnet, vgg
from jaxep.nets.couplings import Conv, Coupling, Dense, Identity
from jaxep.nets.cut import cut
from jaxep.nets.diagnostics import layer_report
from jaxep.nets.graph import Edge, Input, Layer, Network
from jaxep.nets.heads import (
    Head,
    Targets,
    distillation,
    kappa_schedule,
    local_errors,
    output,
    readout,
    weighted_distillation,
)
from jaxep.nets.model import Model
from jaxep.nets.specs import ConvSpec, parse_conv

__all__ = [
    "ACTIVATIONS",
    "Conv",
    "ConvSpec",
    "Coupling",
    "Dense",
    "Edge",
    "Head",
    "Identity",
    "Input",
    "Layer",
    "Model",
    "Network",
    "Targets",
    "cut",
    "distillation",
    "hopfield",
    "kappa_schedule",
    "layer_report",
    "local_errors",
    "mlp",
    "output",
    "parse_conv",
    "readout",
    "resnet",
    "vgg",
    "weighted_distillation",
]
