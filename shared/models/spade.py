"""Normalisation that is modulated by a label map (SPADE), and label maps at other sizes.

Park et al. 2019 (arXiv 1903.07291) in the form of semantic diffusion (Wang et al. 2022, arXiv
2207.00050): a normalisation by groups without parameters, scale and shift of every cell by two
layers of 3x3 over the map. Nothing normalises within those layers, so an edit of the map changes
scale and shift at most two cells away (a normalisation there would carry it everywhere).
"""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, group_norm, interpolate, relu

from shared.errors import Code, EchoFedError

REACH = 2
"""Cells from which an edit of the map is felt: two convolutions of 3x3."""


def nearest_map(maps_NLHW: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """The map as it is in the middle of each cell: one-hot stays one-hot, nothing stays nothing."""
    return interpolate(maps_NLHW, size_HW, mode="nearest-exact")


def area_map(maps_NLHW: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Each structure's share of each cell, so that one thinner than a cell is not lost."""
    return adaptive_avg_pool2d(maps_NLHW, size_HW)


def expect_groups(channels: int, groups: int) -> None:
    """Check that channels can be normalised in so many groups.

    Raises:
        EchoFedError: CONFIG_INVALID where they cannot.
    """
    if channels < 1 or groups < 1 or channels % groups:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{channels} channels cannot be normalised in {groups} groups",
            f"take a width that is a multiple of {groups}",
        )


class Spade(nn.Module):
    """norm(x) * (1 + gamma) + beta, where gamma and beta are read off the label map.

    Both are zero at first, so the layer begins as the plain normalisation.

    Args:
        channels: of the features.
        num_structures: channels of the map.
        hidden: channels between the map and gamma and beta.
        groups: of the normalisation.
        eps: added to the variance.
    """

    def __init__(
        self, channels: int, num_structures: int, *, hidden: int, groups: int, eps: float = 1e-5
    ) -> None:
        """Build the layers.

        Raises:
            EchoFedError: CONFIG_INVALID for groups that do not divide the channels.
        """
        super().__init__()
        expect_groups(channels, groups)
        self.groups, self.eps = groups, eps
        self.read = nn.Conv2d(num_structures, hidden, 3, padding=1)
        self.modulate = nn.Conv2d(hidden, 2 * channels, 3, padding=1)
        nn.init.zeros_(self.modulate.weight)
        assert self.modulate.bias is not None
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x_NCHW: Tensor, maps_NLHW: Tensor) -> Tensor:
        """Features of the same shape; the map may have any size."""
        height, width = x_NCHW.shape[-2:]
        hidden_NDHW = relu(self.read(nearest_map(maps_NLHW, (height, width))))
        gamma_NCHW, beta_NCHW = self.modulate(hidden_NDHW).chunk(2, dim=1)
        plain_NCHW = group_norm(x_NCHW, self.groups, eps=self.eps)
        modulated_NCHW: Tensor = plain_NCHW * (1 + gamma_NCHW) + beta_NCHW
        return modulated_NCHW
