"""The language in which a configuration says a convolutional network."""

import re
from typing import NamedTuple

POOLS = {"M": "max", "A": "average"}


class ConvSpec(NamedTuple):
    """One convolution or residual block of a specification.

    Attributes:
        features: channels.
        kernel_size: height and width of the kernel.
        stride: of the convolution; of a residual block's second one and its skip.
        padding: zeros added on each side.
        pool: None, "max" or "average": 2x2, after the convolution.
        residual: whether it is a block of two convolutions and a skip.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    pool: str | None = None
    residual: bool = False

    @property
    def reduces(self) -> bool:
        """Whether the map behind it is smaller by a pool or a stride."""
        return self.pool is not None or self.stride > 1


def parse_conv(spec: str) -> tuple[ConvSpec, ...]:
    """Reads "64 M 128v A 64k5 32s2 R128".

    A number is a convolution of that many channels, 3x3 and padded to keep the size; behind it k5
    makes it 5x5, s2 gives it stride 2 and v takes the padding away. M and A are the 2x2 max and
    average pool of the convolution before. R128 is a residual block of 128 channels, of stride 2
    unless s1 says otherwise.

    Raises:
        ValueError: a sentence that names the token that cannot be read.
    """
    convs: list[ConvSpec] = []
    for token in spec.split():
        match = re.fullmatch(r"(R?)([1-9]\d*)((?:k[1-9]\d*|s[1-9]\d*|v)*)", token)
        if match:
            convs.append(_conv_spec(token, bool(match[1]), int(match[2]), match[3]))
        elif token in POOLS and convs and not convs[-1].pool and not convs[-1].residual:
            convs[-1] = convs[-1]._replace(pool=POOLS[token])
        elif token in POOLS:
            raise ValueError(f"a pool {token} must follow a convolution, and only one pool each")
        else:
            raise ValueError(
                f"{token!r} is neither channels (64, or 64v without padding, 64k5, 64s2), nor a "
                "residual block (R64), nor a pool (M, A)"
            )
    return tuple(convs)


def _conv_spec(token: str, residual: bool, features: int, options: str) -> ConvSpec:
    found = re.findall(r"[ksv]\d*", options)
    values = {option[0]: int(option[1:] or 0) for option in found}
    size = values.get("k", 3)
    if len(values) < len(found):
        raise ValueError(f"{token!r} gives an option twice")
    if residual and ("k" in values or "v" in values):
        raise ValueError(f"{token!r}: a residual block has 3x3 kernels with padding")
    if size % 2 == 0 and "v" not in values:
        raise ValueError(f"{token!r}: an even kernel cannot keep the size, write {token}v")
    padding = 0 if "v" in values else size // 2
    return ConvSpec(features, size, values.get("s", 2 if residual else 1), padding, None, residual)


def named_specs(conv: str) -> list[tuple[str, ConvSpec]]:
    """The parts of a specification with the name of the layer that each ends in.

    Convolutions are conv1, conv2, ...; residual blocks end in res1_b, res2_b, ...
    """
    named, convs, blocks = [], 0, 0
    for spec in parse_conv(conv):
        convs, blocks = convs + (not spec.residual), blocks + spec.residual
        named.append((f"res{blocks}_b" if spec.residual else f"conv{convs}", spec))
    return named
