"""Networks by name: layer counts, shapes and parameters of Table 4, and what else can be said."""

import jax
import pytest

from jaxep.core.activations import hard_sigmoid, hard_tanh, linear, relu, relu6
from jaxep.nets import ACTIVATIONS, Conv, Dense, Identity, hopfield, mlp, resnet, vgg
from tests.draws import inputs_of, params_of, states_of

CIFAR = (32, 32, 3)
VGG = {
    "vgg5": ("128 M 256 M 512 M 512v M", ()),
    "vgg7": ("64 M 128 M 256 M 512 M 512 M", (512,)),
    "vgg10": ("64 M 128 M 256 256 M 512 512 M 512 512 M", (512,)),
    "vgg11": ("64 M 128 M 256 256 M 512 512 M 512 512 M", (512, 512)),
    "vgg12": ("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512,)),
    "vgg13": ("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M", (512, 512)),
}


def build(name, output="readout"):
    conv, hidden = VGG[name]
    return vgg(conv, hidden, CIFAR, 100, output=output)


def shapes_of(model):
    return tuple(model.network.shapes.values())


def by_hand(conv, hidden, classes):
    """Weights and biases, counted from the specification alone (the last map is 1x1)."""
    channels = [3] + [int(token.rstrip("v")) for token in conv.split() if token != "M"]
    dense = [channels[-1], *hidden, classes]
    convs = sum(9 * a * b + b for a, b in zip(channels, channels[1:], strict=False))
    return convs + sum(a * b + b for a, b in zip(dense, dense[1:], strict=False))


def size_of(model):
    params = jax.eval_shape(model.init_params, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", VGG)
def test_weighted_layers_and_parameters_of_table_4(name):
    model = build(name)
    assert len(model.weight_names) == int(name[3:])
    assert size_of(model) == by_hand(*VGG[name], 100)


def test_names_go_from_the_input_upwards():
    model = build("vgg7")
    assert model.network.layer_names == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1")
    assert model.weight_names == (*model.network.layer_names, "readout")
    edges = [(edge.lower, edge.upper, edge.name) for edge in model.network.edges]
    assert edges[:2] == [("image", "conv1", "conv1"), ("conv1", "conv2", "conv2")]
    assert list(model.network.blocks.values()) == [0, 1, 0, 1, 0, 1]


def test_shapes_of_vgg_12_end_each_block_at_half_the_size():
    shapes = shapes_of(build("vgg12"))
    blocks = [shapes[i] for i in (1, 3, 5, 7, 9)]
    assert blocks == [(16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512)]
    assert shapes[-1] == (512,)


def test_vgg_5_ends_in_a_convolution_without_padding():
    assert shapes_of(build("vgg5")) == ((16, 16, 128), (8, 8, 256), (4, 4, 512), (1, 1, 512))


def test_squared_error_makes_the_output_a_neuron_layer():
    model = build("vgg7", output="neurons")
    assert [head.name for head in model.heads] == ["output"]
    assert model.network.shapes["output"] == (100,) == shapes_of(model)[-1]
    assert len(model.weight_names) == 7 and model.weight_names[-1] == "output"
    states = states_of(model, 2, dtype="float32")
    assert model.outputs({"heads": {}}, states) is states["output"]


def test_kernels_strides_paddings_and_average_pools():
    model = vgg("4k5 A 6s2 5k2v 7k1", (), (16, 12, 3), 5)
    assert shapes_of(model) == ((8, 6, 4), (4, 3, 6), (3, 2, 5), (3, 2, 7))
    couplings = [edge.coupling for edge in model.network.edges]
    assert couplings == [
        Conv((16, 12, 3), 4, 5, 1, 2, "average"),
        Conv((8, 6, 4), 6, 3, 2, 1),
        Conv((4, 3, 6), 5, 2, 1, 0),
        Conv((3, 2, 5), 7, 1, 1, 0),
    ]
    weights = 25 * 3 * 4 + 9 * 4 * 6 + 4 * 6 * 5 + 5 * 7 + 42 * 5
    assert size_of(model) == weights + 4 + 6 + 5 + 7 + 5


def test_residual_blocks_between_convolutions():
    model = vgg("4 M R6 R6s1 R8s1", (5,), (8, 8, 3), 10)
    network = model.network
    assert network.shapes == {
        "conv1": (4, 4, 4),
        "res1_a": (4, 4, 6),
        "res1_b": (2, 2, 6),
        "res2_a": (2, 2, 6),
        "res2_b": (2, 2, 6),
        "res3_a": (2, 2, 8),
        "res3_b": (2, 2, 8),
        "fc1": (5,),
    }
    skips = {e.name: (e.lower, e.upper, e.coupling) for e in network.edges if "skip" in e.name}
    assert skips == {
        "res1_skip": ("conv1", "res1_b", Conv((4, 4, 4), 6, 1, 2, 0, use_bias=False)),
        # The same shape on both sides: nothing to learn.
        "res2_skip": ("res1_b", "res2_b", Identity((2, 2, 6))),
        "res3_skip": ("res2_b", "res3_b", Conv((2, 2, 6), 8, 1, 1, 0, use_bias=False)),
    }
    assert "res2_skip" not in model.weight_names
    x, states = inputs_of(model, 2, dtype="float32"), states_of(model, 2, dtype="float32")
    assert network.phi(params_of(model, dtype="float32"), x, states).shape == (2,)


def test_an_mlp_takes_inputs_of_any_shape():
    model = mlp((7, 6), (4, 5), 3, output_activation=linear)
    assert model.network.shapes == {"fc1": (7,), "fc2": (6,), "output": (3,)}
    assert [edge.coupling for edge in model.network.edges][0] == Dense((4, 5), 7)
    assert list(model.network.activations.values()) == [hard_sigmoid, hard_sigmoid, linear]
    assert size_of(model) == 20 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3
    assert mlp((7,), (4,), 3, output="readout").weight_names == ("fc1", "readout")


def test_a_hopfield_net_joins_every_layer_with_every_other():
    model = hopfield((7, 6), (4,), 3)
    edges = {(edge.lower, edge.upper) for edge in model.network.edges}
    names = ("image", "fc1", "fc2", "output")
    assert edges == {(a, b) for i, b in enumerate(names) for a in names[:i]}
    assert sorted(model.network.blocks.values()) == [0, 1, 2]
    pairs = 4 * 7 + 4 * 6 + 4 * 3 + 7 * 6 + 7 * 3 + 6 * 3
    assert size_of(model) == pairs + 7 + 6 + 3  # one bias for each layer
    assert set(model.weight_names) == {
        *("fc1", "fc2", "image_fc2", "output", "fc1_output", "image_output")
    }


def test_sigma_of_convolutions_of_dense_layers_and_of_the_output():
    model = vgg("4", (5,), (4, 4, 1), 3, conv_activation=relu, output="neurons")
    assert list(model.network.activations.values()) == [relu, hard_sigmoid, hard_sigmoid]
    model = vgg("4", (5,), (4, 4, 1), 3, dense_activation=hard_tanh, output="neurons")
    assert list(model.network.activations.values()) == [hard_sigmoid, hard_tanh, hard_tanh]
    model = resnet((4,), (4, 4, 1), 3)
    assert list(model.network.activations.values()) == [relu6, relu6, linear]
    assert all(callable(sigma) for sigma in ACTIVATIONS.values()) and ACTIVATIONS["relu6"] is relu6


BUILDERS = {
    "vgg": lambda gain: vgg("20 M 20", (40,), (4, 4, 20), 10, gain=gain),
    "resnet": lambda gain: resnet((20, 20), (4, 4, 20), 10, gain=gain),
    "mlp": lambda gain: mlp((40, 50), (60,), 10, output="readout", gain=gain),
    "hopfield": lambda gain: hopfield((40, 50), (60,), 10, gain=gain),
}


def bounds(model):
    """max |w| sqrt(fan_in) of each weight, by name."""
    params = model.init_params(jax.random.key(0))
    kernels = {
        name: own["kernel"] for group in ("edges", "heads") for name, own in params[group].items()
    }
    return {n: float(abs(k).max()) * k[..., 0].size ** 0.5 for n, k in kernels.items()}


@pytest.mark.parametrize("name", BUILDERS)
def test_gains_are_one_for_all_or_by_the_name_of_the_weight(name):
    build = BUILDERS[name]
    ones = bounds(build(1.0))
    first, *others = ones
    assert all(0.9 < bound <= 1 for bound in ones.values())
    halves = bounds(build(0.5))
    assert all(halves[n] == pytest.approx(0.5 * ones[n]) for n in ones)
    named = bounds(build({first: 0.25}))
    assert named[first] == pytest.approx(0.25 * ones[first])
    assert all(named[n] == pytest.approx(ones[n]) for n in others)
    rest = bounds(build({first: 0.25, "default": 3.0}))
    assert all(rest[n] == pytest.approx(3 * ones[n]) for n in others)
    with pytest.raises(ValueError, match=f"gain: there is no weight convX; there are .*{first}"):
        build({"convX": 2.0})


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: vgg("4 M 4 M 4 M 4 M", (), (8, 8, 1), 10), "conv4: .*pool.* 1x1 map"),
        (
            lambda: vgg("4k5v 4k5v", (), (8, 8, 1), 10),
            "conv2: .*kernel_size = 5: must be at most 4",
        ),
        (lambda: vgg("4 R4", (), (8,), 10), "conv1: .*height, width, channels"),
        (lambda: vgg("R4", (), (8, 8), 10), "res1_a: .*height, width, channels"),
        (lambda: vgg("4 x", (), (8, 8, 1), 10), "'x'"),
        (lambda: vgg("", (), (8,), 10), "a layer of neurons below its readout"),
        (
            lambda: vgg("4", (), (8, 8, 1), 10, output="logits"),
            "output = 'logits'.*readout, neurons",
        ),
        (lambda: mlp((4, 0), (8,), 10), "features = 0"),
        (lambda: hopfield((4,), (8,), 10, output="none"), "output = 'none'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(build, words):
    with pytest.raises(ValueError, match=words):
        build()
