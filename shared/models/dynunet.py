"""MONAI's DynUNet, nnU-Net's network, with the same doors as our own U-Net."""

from typing import ClassVar, Literal

from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet
from torch import Tensor, nn

from shared.models.unet import WIDEST


class DynUNet(nn.Module):
    """A structure's logit for every pixel.

    Reference: Isensee et al. 2021 (Nature Methods 18:203), as in MONAI (Apache-2.0).

    Args:
        num_outputs: structures, the background among them.
        in_chans: channels of the image.
        width: channels of the first level; each below has twice as many, 512 at most.
        depth: halvings.
        patch: pixels a side that the first layer reads as one, as in ``UNetTrunk``.
    """

    answers: ClassVar[Literal["masks"]] = "masks"

    def __init__(
        self,
        num_outputs: int,
        in_chans: int = 1,
        *,
        width: int = 32,
        depth: int = 5,
        patch: int = 1,
    ) -> None:
        """Build MONAI's network between the two rearrangements."""
        super().__init__()
        self.stride = patch * 2**depth
        self.gather, self.spread = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.inner = MonaiDynUNet(
            spatial_dims=2,
            in_channels=in_chans * patch**2,
            out_channels=num_outputs * patch**2,
            kernel_size=[3] * (depth + 1),
            strides=[1] + [2] * depth,
            upsample_kernel_size=[2] * depth,
            filters=[min(width * 2**level, WIDEST) for level in range(depth + 1)],
        )
        for name in ("input_block", "downsamples", "bottleneck", "upsamples"):
            delattr(self.inner, name)  # the same layers stand in skip_layers, which forward runs

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Logits (N, structures, H, W); the edge is repeated up to the next multiple of stride."""
        height, width = image_NCHW.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        padded_NCHW = nn.functional.pad(image_NCHW, (0, right, 0, below), mode="replicate")
        logits_NSHW: Tensor = self.spread(self.inner(self.gather(padded_NCHW)))
        return logits_NSHW[..., :height, :width]
