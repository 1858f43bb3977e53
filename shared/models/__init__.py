"""Table of our own backbones; any other name is looked up in timm."""

from typing import TYPE_CHECKING, Literal, Protocol

from shared.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from shared.echo.synthesizer import Option


class SegmenterKind(Protocol):
    """The class of a network in the table of segmenters."""

    answers: Literal["masks", "contours"]

    def __call__(self, num_outputs: int, *, width: int, depth: int, patch: int) -> "nn.Module":
        """Build a network of so many structures or landmarks."""
        ...


class DenoiserKind(Protocol):
    """The class of a network in the table of denoisers.

    What it builds maps (x_NCHW, noise_N, maps_NLHW, view_N) to the network's answer: C channels as
    x, or 2C where it learns the variance too. The noise is the preconditioning's c_noise. The map
    is one-hot and of any size; all zero, it stands for a label that is not told, as the view
    ``num_views`` does for the view. Height and width are multiples of ``stride``.
    """

    def __call__(
        self, channels: int, num_structures: int, num_views: int, **options: "Option"
    ) -> "nn.Module":
        """Build a network for latents of so many channels.

        Raises:
            EchoFedError: CONFIG_INVALID for options that cannot be.
        """
        ...


class Autoencoder(Protocol):
    """Images to latents and back, inside the sector only.

    Args:
        latent_channels: values of a cell of the latent.
        factor: pixels a side that a cell stands for.
        fixed_normalisation: shift and scale of the normalised latent, (latent - shift) / scale;
            None where they come from the training data.
    """

    latent_channels: int
    factor: int
    fixed_normalisation: tuple[float, float] | None

    def encode(self, image_N1HW: "Tensor", sector_N1HW: "Tensor") -> "Tensor":
        """Latent (N, C, h, w) of images in [0, 1]: no draw, not normalised, 0 outside."""
        ...

    def decode(self, latent_NCHW: "Tensor", sector_N1HW: "Tensor") -> "Tensor":
        """Images (N, 1, H, W) in [0, 1], 0 outside the sector."""
        ...

    def loss_terms(
        self, image_N1HW: "Tensor", sector_N1HW: "Tensor", generator: "torch.Generator"
    ) -> "dict[str, Tensor]":
        """The weighted terms of the loss by name; their sum is minimised."""
        ...


class AutoencoderKind(Protocol):
    """The class of a network in the table of autoencoders."""

    def __call__(self, **options: "Option") -> Autoencoder:
        """Build a network; what is left out has the network's own default."""
        ...


BACKBONES: Registry[type] = Registry(
    "backbone",
    {
        "cifar_resnet18": "shared.models.cifar_resnet:CifarResNet18",
    },
)
"""name -> network class taking (num_classes, in_chans)."""

SEGMENTERS: Registry[SegmenterKind] = Registry(
    "segmenter",
    {
        "unet": "shared.models.unet:UNet",
        "contour_net": "shared.models.contour_net:ContourNet",
        "dynunet": "shared.models.dynunet:DynUNet",
    },
)
"""name -> network of masks or of contours, as its ``answers`` says."""

AUTOENCODERS: Registry[AutoencoderKind] = Registry(
    "autoencoder",
    {
        "pixels": "shared.models.pixel_autoencoder:PixelAutoencoder",
        "kl": "shared.models.kl_autoencoder:KLAutoencoder",
        "gamma": "shared.models.gamma_autoencoder:GammaAutoencoder",
        "haar": "shared.models.haar_autoencoder:HaarAutoencoder",
    },
)
"""name -> images to latents and back; ``pixels`` leaves images as they are, ``haar`` needs no
training."""

EMBEDDINGS: Registry[type] = Registry(
    "embedding",
    {
        "reidentify": "shared.models.embedding:ReIdentify",
    },
)
"""name -> network of square grey images -> unit vectors."""

DENOISERS: Registry[DenoiserKind] = Registry(
    "denoiser",
    {
        "spade_unet": "shared.models.spade_unet:SpadeUNet",
        "adm": "shared.models.adm:Adm",
        "ddpmpp": "shared.models.adm:DdpmPlusPlus",
        "ncsnpp": "shared.models.adm:NcsnPlusPlus",
    },
)
"""name -> network that takes noise off a latent, under a label map."""
