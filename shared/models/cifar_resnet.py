"""The papers' expert: ResNet-18, 3x3 stem, no max-pool (Bransby et al. 2024, arXiv 2407.21577)."""

from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512)
_STRIDES = (1, 2, 2, 2)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = (
            nn.Identity()
            if stride == 1 and width_in == width
            else nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return out


class CifarResNet18(nn.Module):
    """Stages 64/128/256/512 of two blocks, strides 1/2/2/2, global mean, dropout, linear head.

    Args:
        num_classes: views of the head; 0 for none.
        in_chans: channels of the image.
        drop_rate: dropout before the head; the fusion paper uses 0.1, the BackMix paper 0.
    """

    def __init__(self, num_classes: int, in_chans: int = 1, drop_rate: float = 0.1) -> None:
        """Build the layers with torch's default initialisation."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, _WIDTHS[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        stages, width_in = [], _WIDTHS[0]
        for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
            stages += [_BasicBlock(width_in, width, stride), _BasicBlock(width, width, 1)]
            width_in = width
        self.stages = nn.Sequential(*stages)
        self.feature_info = [  # as in timm: where the stages end
            {"module": f"stages.{2 * place + 1}", "num_chs": width}
            for place, width in enumerate(_WIDTHS)
        ]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map (N, 512, H/8, W/8)."""
        out: Tensor = self.stages(self.stem(x))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features before dropout, or logits."""
        features_ND: Tensor = self.pool(x).flatten(1)
        if pre_logits:
            return features_ND
        logits_NC: Tensor = self.fc(self.drop(features_ND))
        return logits_NC

    def get_classifier(self) -> nn.Module:
        """The linear head."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one."""
        self.fc: nn.Module = nn.Linear(_WIDTHS[-1], num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C)."""
        return self.forward_head(self.forward_features(x))
