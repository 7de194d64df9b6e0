"""The language of convolutions: every token, and a sentence for each that is none."""

import pytest

from jaxep.nets.specs import ConvSpec, named_specs, parse_conv
from jaxep.nets.teachers import layers_of_blocks, parse_teacher


@pytest.mark.parametrize(
    ("token", "spec"),
    [
        ("64", ConvSpec(64, 3, 1, 1)),
        ("64v", ConvSpec(64, 3, 1, 0)),
        ("64k5", ConvSpec(64, 5, 1, 2)),
        ("64k1", ConvSpec(64, 1, 1, 0)),
        ("64k5v", ConvSpec(64, 5, 1, 0)),
        ("64k4v", ConvSpec(64, 4, 1, 0)),
        ("64s2", ConvSpec(64, 3, 2, 1)),
        ("64k7s3v", ConvSpec(64, 7, 3, 0)),
        ("64vs3k7", ConvSpec(64, 7, 3, 0)),
        ("R64", ConvSpec(64, 3, 2, 1, None, True)),
        ("R64s1", ConvSpec(64, 3, 1, 1, None, True)),
        ("R64s3", ConvSpec(64, 3, 3, 1, None, True)),
        ("64 M", ConvSpec(64, 3, 1, 1, "max")),
        ("64k5s2v A", ConvSpec(64, 5, 2, 0, "average")),
    ],
)
def test_every_token(token, spec):
    assert parse_conv(token) == (spec,)
    assert parse_conv(f"  8 {token}\t9  ") == (ConvSpec(8), spec, ConvSpec(9))
    assert spec.reduces == (spec.pool is not None or spec.stride > 1)


def test_no_token_is_no_convolution():
    assert parse_conv("") == parse_conv(" ") == ()


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("64 x", "'x'"),
        ("M 64", "pool"),
        ("64 M M", "pool"),
        ("64 M A", "pool A"),
        ("R64 M", "pool M must follow a convolution"),
        ("0", "'0'"),
        ("64 R0", "'R0'"),
        ("-64", "'-64'"),
        ("6.4", "'6.4'"),
        ("64,128", "'64,128'"),
        ("m", "'m'"),
        ("64k0", "'64k0'"),
        ("64s0", "'64s0'"),
        ("64k", "'64k'"),
        ("64p2", "'64p2'"),
        ("64k3k5", "'64k3k5' gives an option twice"),
        ("64vv", "'64vv' gives an option twice"),
        ("64k4", "'64k4': an even kernel cannot keep the size, write 64k4v"),
        ("R64k5", "'R64k5': a residual block"),
        ("R64v", "'R64v': a residual block"),
        ("٦٤", "'٦٤'"),
    ],
)
def test_a_bad_specification_names_its_token(spec, word):
    with pytest.raises(ValueError, match=word) as caught:
        parse_conv(spec)
    assert "\n" not in str(caught.value)


def test_layers_are_named_in_the_order_of_their_kind():
    names = [name for name, _ in named_specs("4 M R8 16 A R8s1 R4")]
    assert names == ["conv1", "res1_b", "conv2", "res2_b", "res3_b"]


def test_residual_blocks_and_strides_meet_the_blocks_of_a_teacher_too():
    assert layers_of_blocks("4 M 4 R8 16 A R8s1 8s2") == {
        "conv1": 0,
        "res1_b": 1,
        "conv3": 2,
        "conv4": 3,
    }
    for conv in ("4 M 4s2", "4 M R8"):
        with pytest.raises(ValueError, match="no strides and no residual blocks"):
            parse_teacher(conv)
