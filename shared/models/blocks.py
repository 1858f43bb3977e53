"""Layers that several networks are made of."""

from torch import nn

from shared.errors import Code, EchoFedError

GROUPS = 8
"""Channels are normalised in this many groups, so widths are multiples of it."""
_SLOPE = 0.01  # of the leaky rectifier, as in nnU-Net


def conv_pair(channels_in: int, channels: int, *, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions, each normalised and rectified; the first may reduce the size.

    Groups of channels are normalised within each frame (Wu and He 2018, arXiv 1803.08494): no
    batch statistics, so a frame's answer does not depend on its neighbours in the batch, and
    averaging weights over sites leaves nothing behind that is of one site.

    Raises:
        EchoFedError: CONFIG_INVALID where the groups do not divide the channels.
    """
    if channels < GROUPS or channels % GROUPS:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{channels} channels cannot be normalised in {GROUPS} groups",
            f"take a width that is a multiple of {GROUPS}",
        )
    layers: list[nn.Module] = []
    for width_in, step in ((channels_in, stride), (channels, 1)):
        convolution = nn.Conv2d(width_in, channels, 3, step, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, a=_SLOPE)
        layers += [convolution, nn.GroupNorm(GROUPS, channels), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers)


def point_head(channels: int, num_outputs: int, *, scale: float = 1.0) -> nn.Conv2d:
    """A 1x1 convolution whose first answers have a deviation of about ``scale``.

    Answers near zero would send next to no gradient into the trunk: on apical pictures the rarer
    structures then stay unseen for hundreds of steps.
    """
    head = nn.Conv2d(channels, num_outputs, 1)
    nn.init.normal_(head.weight, std=scale * channels**-0.5)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head
