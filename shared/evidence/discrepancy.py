"""Layer-wise discrepancy of a frame from an expert's training data; higher = more at home.

Neural mean discrepancy of Dong et al., CVPR 2022 (arXiv 2104.11408), reduced to one standardised
distance a layer. The reference is read off the BatchNorm buffers where a backbone has them, and
else taken over the training frames after training.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

REFERENCE_PREFIX = "reference."
"""Tensors of a weights file under this name are references, not parameters."""

_VARIANCE_FLOOR = 1e-5  # BatchNorm's own default; keeps a dead channel from dividing by zero


@dataclass(frozen=True, slots=True)
class ChannelReference:
    """What is normal for each watched layer.

    Args:
        mean: layer name -> channel means (C,).
        variance: layer name -> channel variances (C,).
    """

    mean: Mapping[str, Tensor]
    variance: Mapping[str, Tensor]

    @property
    def layers(self) -> tuple[str, ...]:
        """Watched layers in the order of the evidence's columns."""
        return tuple(self.mean)

    def tensors(self) -> dict[str, Tensor]:
        """The reference as named tensors for a weights file."""
        named = {f"{REFERENCE_PREFIX}{name}.mean": value for name, value in self.mean.items()}
        return named | {f"{REFERENCE_PREFIX}{n}.variance": v for n, v in self.variance.items()}


def discrepancy(means: Mapping[str, Tensor], reference: ChannelReference) -> Tensor:
    """Minus the root mean square over a layer's channels of the standardised distance.

    Args:
        means: layer name -> spatial channel means (N, C).
        reference: what is normal; its layers make the columns.

    Returns:
        Evidence (N, L), at most 0; 0 where all channel means equal the reference.
    """
    columns = [
        -((means[name] - mean) ** 2 / (reference.variance[name] + _VARIANCE_FLOOR)).mean(1).sqrt()
        for name, mean in reference.mean.items()
    ]
    return torch.stack(columns, dim=1)


class ChannelMeans:
    """Watches layers of a model and keeps their spatial channel means of the latest pass."""

    def __init__(self, model: nn.Module) -> None:
        """Attach to all BatchNorm inputs; without any, to convolution and LayerNorm outputs."""
        self.latest: dict[str, Tensor] = {}
        self.has_batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
        self._hooks: list[RemovableHandle] = []
        for name, layer in model.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                self._hooks.append(layer.register_forward_pre_hook(self._input_hook(name)))
            elif not self.has_batch_norm and isinstance(layer, nn.Conv2d | nn.LayerNorm):
                self._hooks.append(layer.register_forward_hook(self._output_hook(name)))

    def __enter__(self) -> Self:
        """Watch until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Detach from the model."""
        for hook in self._hooks:
            hook.remove()

    def _input_hook(self, name: str) -> Callable[[nn.Module, Any], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.latest[name] = inputs[0].detach().mean(dim=(2, 3))

        return keep

    def _output_hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(layer: nn.Module, _: Any, output: Tensor) -> None:
            self.latest[name] = _channel_means(layer, output.detach())

        return keep


def batch_norm_reference(model: nn.Module, layers: Iterable[str]) -> ChannelReference:
    """Reference from the running buffers of the named BatchNorm layers: no pass over data."""
    modules = dict(model.named_modules())
    mean, variance = {}, {}
    for name in layers:
        layer = modules[name]
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean[name], variance[name] = layer.running_mean, layer.running_var
    return ChannelReference(mean, variance)


def measure_reference(passes: Iterable[Mapping[str, Tensor]]) -> ChannelReference:
    """Reference from the channel means of training frames, batch by batch, summed in float64."""
    total: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    num = 0
    for means in passes:
        num += len(next(iter(means.values())))
        for name, value_NC in means.items():
            exact_NC = value_NC.double()
            total[name] = total.get(name, 0) + exact_NC.sum(0)
            squares[name] = squares.get(name, 0) + (exact_NC**2).sum(0)
    assert num > 0
    mean = {name: value / num for name, value in total.items()}
    variance = {n: (squares[n] / num - mean[n] ** 2).clamp(min=0).float() for n in total}
    return ChannelReference({name: value.float() for name, value in mean.items()}, variance)


def read_reference(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> ChannelReference:
    """Reference from a weights file's tensors."""
    names = tuple(layers)
    return ChannelReference(
        {name: tensors[f"{REFERENCE_PREFIX}{name}.mean"] for name in names},
        {name: tensors[f"{REFERENCE_PREFIX}{name}.variance"] for name in names},
    )


def _channel_means(layer: nn.Module, output: Tensor) -> Tensor:
    """Mean over all axes but frames and channels; a plain LayerNorm has its channels last."""
    channels_last = isinstance(layer, nn.LayerNorm) and not isinstance(layer, LayerNorm2d)
    axes = tuple(range(1, output.ndim - 1)) if channels_last else tuple(range(2, output.ndim))
    return output.mean(dim=axes) if axes else output
