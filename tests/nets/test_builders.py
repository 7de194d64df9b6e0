"""Architectures of Table 4: layer counts, shapes, parameter counts."""

import jax
import jax.numpy as jnp
import pytest

from jaxep.core.sweep import hard_sigmoid
from jaxep.nets.graph import parse_conv, vgg

CIFAR = (32, 32, 3)
VGG = {
    "vgg5": ("128 M 256 M 512 M 512v M", ()),
    "vgg7": ("64 M 128 M 256 M 512 M 512 M", (512,)),
    "vgg10": ("64 M 128 M 256 256 M 512 512 M 512 512 M", (512,)),
    "vgg11": ("64 M 128 M 256 256 M 512 512 M 512 512 M", (512, 512)),
    "vgg12": ("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512,)),
    "vgg13": ("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512, 512)),
}


def build(name, has_readout=True):
    conv, hidden = VGG[name]
    return vgg(
        conv,
        hidden,
        CIFAR,
        100,
        conv_activation=hard_sigmoid,
        dense_activation=hard_sigmoid,
        has_readout=has_readout,
    )


def by_hand(conv, hidden, classes):
    """Weights and biases, counted from the specification alone (the last map is 1x1)."""
    channels = [3] + [int(token.rstrip("v")) for token in conv.split() if token != "M"]
    dense = [channels[-1], *hidden, classes]
    convs = sum(9 * a * b + b for a, b in zip(channels, channels[1:], strict=False))
    return convs + sum(a * b + b for a, b in zip(dense, dense[1:], strict=False))


@pytest.mark.parametrize("name", VGG)
def test_weighted_layers_and_parameters_of_table_4(name):
    net = build(name)
    params = jax.eval_shape(net.init_params, jax.random.key(0))
    assert len(net.layer_names) == int(name[3:])
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == by_hand(*VGG[name], 100)


def test_shapes_of_vgg_12_end_each_block_at_half_the_size():
    shapes = build("vgg12").state_shapes
    blocks = [shapes[i] for i in (1, 3, 5, 7, 9)]
    assert blocks == [(16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512)]
    assert shapes[-1] == (512,)


def test_vgg_5_ends_in_a_convolution_without_padding():
    assert build("vgg5").state_shapes == ((16, 16, 128), (8, 8, 256), (4, 4, 512), (1, 1, 512))


def test_squared_error_makes_the_output_a_neuron_layer():
    net = build("vgg7", has_readout=False)
    assert net.readout is None
    assert net.state_shapes[-1] == (100,)
    assert len(net.layer_names) == 7
    states = net.init_states(jax.random.key(0), 2, "uniform")
    assert net.outputs({}, states) is states[-1]


def test_initial_states_are_zeros_or_uniform():
    net = build("vgg5")
    zeros = net.init_states(jax.random.key(0), 2, "zeros")
    uniform = net.init_states(jax.random.key(0), 2, "uniform")
    assert [z.shape for z in zeros] == [(2, *shape) for shape in net.state_shapes]
    assert not any(jnp.any(z) for z in zeros)
    for u in uniform:
        assert 0 <= u.min() < 0.05 < 0.95 < u.max() < 1


@pytest.mark.parametrize(
    ("spec", "word"), [("64 x", "'x'"), ("M 64", "pool"), ("64 M M", "pool"), ("0", "'0'")]
)
def test_a_bad_specification_names_its_token(spec, word):
    with pytest.raises(ValueError, match=word):
        parse_conv(spec)


def test_too_many_pools_are_refused():
    with pytest.raises(ValueError, match="convolution 4 would leave a 0x0 map of a 1x1 one"):
        vgg(
            "4 M 4 M 4 M 4 M",
            (),
            (8, 8, 1),
            10,
            conv_activation=hard_sigmoid,
            dense_activation=hard_sigmoid,
        )
