"""A frozen network at work: what one forward pass shows, for itself and for adapters beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from shared.errors import Code, EchoFedError
from shared.evidence.discrepancy import ChannelMeans
from shared.models.backbone import features_and_logits

GRID = 5
"""Rows and columns that an intermediate map is pooled to; 5 is the third stage's at 80 pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What one forward pass shows of N frames.

    Args:
        features_ND: after pooling, before dropout.
        logits_NC: of the network's own head.
        means: watched layer -> spatial channel means (N, C).
        maps_NTGG: the maps after all stages, pooled to a grid, side by side; T is 0 without taps.
    """

    features_ND: Tensor
    logits_NC: Tensor
    means: Mapping[str, Tensor]
    maps_NTGG: Tensor


class Encoder:
    """A network whose weights never change.

    It is no torch module on purpose: a module that holds one neither trains nor saves it.
    """

    def __init__(self, model: nn.Module) -> None:
        """Freeze a network, put it into evaluation mode and watch its layers."""
        self._model = model.eval().requires_grad_(False)
        self._means = ChannelMeans(self._model)
        self._taps: dict[str, int] = {}
        self._maps: dict[str, Tensor] = {}

    def tap(self) -> int:
        """Keep the map after each stage from now on; returns their number of channels in all.

        Raises:
            EchoFedError: CONFIG_INVALID for a network that does not say where its stages end.
        """
        stages: Any = getattr(self._model, "feature_info", ())
        if not stages:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                "the trunk's backbone does not say where its stages end",
                "take an expert with another backbone as trunk, such as mobilenetv4_conv_small",
            )
        if not self._taps:
            modules = dict(self._model.named_modules())
            for name, width in ((stage["module"], stage["num_chs"]) for stage in stages):
                self._taps[name] = width
                modules[name].register_forward_hook(self._keep_map(name, width))
        return sum(self._taps.values())

    @torch.no_grad()
    def see(self, images_N1HW: Tensor) -> Sight:
        """One forward pass over normalised frames."""
        features_ND, logits_NC = features_and_logits(self._model, images_N1HW)
        maps = [self._maps[name] for name in self._taps]
        maps_NTGG = torch.cat(maps, 1) if maps else images_N1HW.new_zeros(len(images_N1HW), 0, 1, 1)
        return Sight(features_ND, logits_NC, dict(self._means.latest), maps_NTGG)

    def _keep_map(self, name: str, width: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            if output.ndim != 4 or output.shape[1] != width:
                raise EchoFedError(
                    Code.CONFIG_INVALID,
                    "the trunk's backbone makes tokens, not maps that an adapter could read",
                    "take an expert with a convolutional backbone as trunk",
                )
            self._maps[name] = adaptive_avg_pool2d(output.detach(), GRID)

        return keep
