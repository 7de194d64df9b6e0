"""A network cut into blocks: the same layers and edges, each block clamped by the one below."""

import jax
import pytest

from jaxep import nets


def test_layers_and_edges_are_dealt_out_in_order_and_the_last_below_is_the_input():
    network = nets.vgg("4 4 M 4 4 4 M 4 4", (9, 8), (8, 8, 1), 10).network
    parts = nets.cut(network, 4)
    assert [part.layer_names for part in parts] == [
        *(("conv1", "conv2", "conv3"), ("conv4", "conv5"), ("conv6", "conv7"), ("fc1", "fc2")),
    ]
    assert [part.inputs[0].name for part in parts] == ["image", "conv3", "conv5", "conv7"]
    assert sum((part.edges for part in parts), ()) == network.edges
    assert sum((part.layers for part in parts), ()) == network.layers
    assert parts[2].inputs[0].shape == network.shapes["conv5"] == (2, 2, 4)
    assert nets.cut(network, 1) == (network,)


def test_each_part_settles_by_itself():
    (_, part) = nets.cut(nets.mlp((6, 5, 4), (7,), 3).network, 2)
    model = nets.Model(part, [nets.output("output")])
    params = model.init_params(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 5))
    states = model.energy().init_states(None, params, x)
    assert {name: s.shape for name, s in states.items()} == {"fc3": (2, 4), "output": (2, 3)}
    assert part.phi(params, x, states).shape == (2,)


@pytest.mark.parametrize(
    ("network", "parts", "message"),
    [
        (nets.mlp((6,), (7,), 3), 3, "a network of 2 layers cannot be cut into 3"),
        (nets.mlp((6,), (7,), 3), 0, "a network of 2 layers cannot be cut into 0"),
        (
            nets.resnet((4, 4), (8, 8, 1), 3, output="readout"),
            *(4, "edge res1_skip from image passes over res1_a"),
        ),
        (nets.hopfield((6, 5), (7,), 3), 3, "edge image_fc2 from image passes over fc1"),
    ],
)
def test_what_cannot_be_cut_is_refused(network, parts, message):
    with pytest.raises(ValueError, match=message):
        nets.cut(network.network, parts)
