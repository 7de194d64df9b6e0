"""A network cut into blocks, each a network that is clamped by the one below (`jaxep.layer`)."""

from jaxep.nets.graph import Network
from jaxep.nets.parts import Input, Layer


def cut(network: Network, parts: int) -> tuple[Network, ...]:
    """Networks of successive layers, as many in each as can be, more in the first ones.

    The input of each is the last layer of the one before: no edge leads back through a cut.

    Args:
        network: layers and edges, whose names are kept.
        parts: how many.

    Raises:
        ValueError: there are fewer layers than parts, or an edge passes over a layer at a cut.
    """
    names = network.layer_names
    if not 1 <= parts <= len(names):
        raise ValueError(f"a network of {len(names)} layers cannot be cut into {parts}")
    inputs, blocks, layers = network.inputs, [], list(network.layers)
    for left in range(parts, 0, -1):
        own, layers = _first(layers, left)
        inside = {layer.name for layer in own}
        edges = [edge for edge in network.edges if edge.upper in inside]
        for edge in edges:
            if edge.lower not in inside | {part.name for part in inputs}:
                raise ValueError(f"edge {edge.name} from {edge.lower} passes over {inputs[0].name}")
        blocks.append(Network(inputs, tuple(own), tuple(edges)))
        inputs = (Input(own[-1].name, own[-1].shape),)
    return tuple(blocks)


def _first(layers: list[Layer], parts: int) -> tuple[list[Layer], list[Layer]]:
    """The first of so many parts, and the others."""
    size = -(-len(layers) // parts)
    return layers[:size], layers[size:]
