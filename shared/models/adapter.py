"""An expert on a shared trunk: a small network beside a frozen encoder, reading its maps.

As in ladder side-tuning of Sung et al., NeurIPS 2022 (arXiv 2206.06522) nothing flows back into
the encoder, so one pass of it serves all experts, and what it said before stays true bit for bit.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.backbone import draw_small_head
from shared.models.encoder import GRID, Encoder
from shared.models.flops import count_flop

MAX_FLOP_SHARE = 0.06
"""What adapter and head may cost of their trunk's FLOP."""
_FEATURES = 96  # as many as the smallest backbone has
_WIDEST, _NARROWEST = 48, 8  # channels; eight of 48 take a third of the smallest trunk's time


class AdaptedTrunk(nn.Module):
    """Adapter and head behind the four doors of a classifier; the encoder is no part of it.

    The maps are standardised by this dataset's statistics, reduced, mixed with their neighbours,
    and read place by place: where something lies in the fan tells views apart.
    """

    def __init__(self, encoder: Encoder, num_views: int, *, width: int) -> None:
        """Build the layers with torch's default initialisation and a head near zero.

        Args:
            encoder: the trunk; neither trained nor saved with this module.
            num_views: width of the head.
            width: channels of the adapter.
        """
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm2d(encoder.tap())
        self.reduce = nn.Conv2d(self.norm.num_features, width, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(width)
        self.read = nn.Linear(width * GRID**2, _FEATURES, bias=False)
        self.read_norm = nn.BatchNorm1d(_FEATURES)
        self.reset_classifier(num_views)
        self.to(memory_format=torch.channels_last)

    def forward_features(self, x: Tensor) -> Tensor:
        """The adapter's map (N, W, G, G) of normalised frames."""
        return self.adapt(self.encoder.see(x).maps_NTGG)

    def adapt(self, maps_NTGG: Tensor) -> Tensor:
        """The adapter's map (N, W, G, G) of what the trunk saw."""
        reduced = torch.relu(self.reduce_norm(self.reduce(self.norm(maps_NTGG))))
        return torch.relu(reduced + self.mix_norm(self.mix(reduced)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (N, D), or logits."""
        features_ND = torch.relu(self.read_norm(self.read(x.flatten(1))))
        logits_NC: Tensor = features_ND if pre_logits else self.fc(features_ND)
        return logits_NC

    def get_classifier(self) -> nn.Module:
        """The linear head."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one that starts from near-equal probabilities."""
        self.fc = nn.Linear(_FEATURES, num_classes)
        draw_small_head(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C)."""
        return self.forward_head(self.forward_features(x))


def build_adapter(encoder: Encoder, num_views: int, *, image_size: int) -> AdaptedTrunk:
    """The widest adapter whose FLOP, head included, are within ``MAX_FLOP_SHARE`` of the trunk's.

    Raises:
        EchoFedError: CONFIG_INVALID where the trunk is too small for any, or cannot be read.
    """
    for width in range(_WIDEST, _NARROWEST - 1, -8):
        adapted = AdaptedTrunk(encoder, num_views, width=width)
        if flop_share(adapted, encoder, image_size=image_size) <= MAX_FLOP_SHARE:
            return adapted
    raise EchoFedError(
        Code.CONFIG_INVALID,
        f"no adapter is within {MAX_FLOP_SHARE:.0%} of so small a trunk's operations",
        "take an expert with a larger backbone or image size as trunk",
    )


def flop_share(adapted: AdaptedTrunk, encoder: Encoder, *, image_size: int) -> float:
    """FLOP of adapter and head over those of the trunk, for one frame."""
    image_N1HW = torch.zeros(1, 1, image_size, image_size)
    maps_NTGG = encoder.see(image_N1HW).maps_NTGG
    was_training = adapted.training
    adapted.eval()  # a single frame has no batch statistics
    own = count_flop(lambda: adapted.forward_head(adapted.adapt(maps_NTGG)))
    adapted.train(was_training)
    return own / count_flop(lambda: encoder.see(image_N1HW))


def adapter_width(tensors: Mapping[str, Tensor]) -> int:
    """Channels of the adapter that these weights are of.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT for weights of anything else.
    """
    if "reduce.weight" not in tensors:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, "these are no weights of an adapter", "fetch them again"
        )
    return len(tensors["reduce.weight"])
