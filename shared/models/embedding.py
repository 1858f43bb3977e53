"""An embedding in which two frames of one patient lie close, and frames of others do not.

By it a drawn image is compared with the frames that the synthesizer learnt from, as in
EchoNet-Synthetic (Reynaud et al. 2024, arXiv 2406.00808).
"""

import torch
from torch import Tensor, nn

from shared.models.blocks import conv_pair

SIDE = 64
"""Frames are compared at this size, whatever they are drawn at."""
_NUM_HALVINGS = 4


class ReIdentify(nn.Module):
    """Convolutions that halve the picture four times, and a projection that knows places."""

    def __init__(self, *, width: int = 16, features: int = 64) -> None:
        """Build the network.

        Args:
            width: channels after the first halving; twice as many after each other.
            features: of a frame.

        Raises:
            EchoFedError: CONFIG_INVALID for a width that is no multiple of the norm's groups.
        """
        super().__init__()
        widths = [min(width * 2**level, 4 * width) for level in range(_NUM_HALVINGS)]
        self.trunk = nn.Sequential(
            *(
                conv_pair(before, after, stride=2)
                for before, after in zip([1, *widths], widths, strict=False)
            )
        )
        side = SIDE // 2**_NUM_HALVINGS
        self.head = nn.Linear(widths[-1] * side**2, features)

    def forward(self, image_N1SS: Tensor) -> Tensor:
        """Unit vectors (N, D) of grey squares of any side and range; an even square has one too."""
        small_N1SS = nn.functional.interpolate(
            image_N1SS, size=(SIDE, SIDE), mode="bilinear", antialias=True
        )
        mean_N111 = small_N1SS.mean(dim=(2, 3), keepdim=True)
        spread_N111 = small_N1SS.std(dim=(2, 3), keepdim=True, correction=0)
        scored_N1SS = (small_N1SS - mean_N111) / spread_N111.clamp(min=1e-6)
        vectors_ND: Tensor = self.head(self.trunk(scored_N1SS).flatten(1))
        return nn.functional.normalize(vectors_ND, dim=1)


def pair_loss(first_ND: Tensor, second_ND: Tensor, temperature: float) -> Tensor:
    """How poorly each vector finds its partner among all others of the batch, a scalar.

    The normalised temperature-scaled cross entropy of Chen et al. 2020 (arXiv 2002.05709, eq. 1).

    Args:
        first_ND: unit vectors of a frame of each of N patients.
        second_ND: of another frame of the same patients.
        temperature: of the softmax over similarities.
    """
    vectors_MD = torch.cat([first_ND, second_ND])
    similarity_MM = vectors_MD @ vectors_MD.T / temperature
    similarity_MM.fill_diagonal_(-torch.inf)
    num = len(first_ND)
    partner_M = torch.arange(2 * num, device=first_ND.device).roll(num)
    return nn.functional.cross_entropy(similarity_MM, partner_M)
