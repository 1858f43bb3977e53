"""Table of our own backbones; any other name is looked up in timm."""

from typing import TYPE_CHECKING, Literal, Protocol

from shared.registry import Registry

if TYPE_CHECKING:
    from torch import nn


class SegmenterKind(Protocol):
    """The class of a network in the table of segmenters."""

    answers: Literal["masks", "contours"]

    def __call__(self, num_outputs: int, *, width: int, depth: int, patch: int) -> "nn.Module":
        """Build a network of so many structures or landmarks."""
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

EMBEDDINGS: Registry[type] = Registry(
    "embedding",
    {
        "reidentify": "shared.models.embedding:ReIdentify",
    },
)
"""name -> network of square grey images -> unit vectors."""
