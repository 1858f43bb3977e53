"""Table of our own backbones; any other name is looked up in timm."""

from shared.registry import Registry

BACKBONES: Registry[type] = Registry(
    "backbone",
    {
        "cifar_resnet18": "shared.models.cifar_resnet:CifarResNet18",
    },
)
"""name -> network class taking (num_classes, in_chans)."""

SEGMENTERS: Registry[type] = Registry(
    "segmenter",
    {
        "unet": "shared.models.unet:UNet",
        "contour_net": "shared.models.contour_net:ContourNet",
    },
)
"""name -> network class taking (num_outputs, in_chans, width=, depth=): structures of a mask, or
landmarks of a contour."""
