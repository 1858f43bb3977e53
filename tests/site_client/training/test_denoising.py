"""What denoisers are held to: hidden labels stay hidden, and validation is always the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from shared.diffusion import PRECONDITIONS
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach
from site_client.training.denoising import Denoising, DenoisingPlan, save_sheet
from site_client.training.synthesis_batches import DrawnBatch, DrawnMaterial

STRUCTURES, VIEWS = 5, 1


class Recorder(nn.Module):
    """Answers with a scaled input, with more channels where asked; remembers what it was told."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.times = times
        self.maps: list[Tensor] = []
        self.views: list[Tensor] = []

    def forward(self, x_NCHW: Tensor, noise_N: Tensor, maps_NLHW: Tensor, view_N: Tensor) -> Tensor:
        self.maps.append(maps_NLHW)
        self.views.append(view_N)
        return torch.cat([self.scale * x_NCHW] * self.times, dim=1)


@pytest.fixture
def task(ventricles: Callable[..., AnnotatedFrames]) -> Callable[..., Denoising]:
    frames = ventricles(*[(96, 96)] * 4)

    def encode(images_N1SS: Tensor, _: Tensor) -> Tensor:
        return (2 * images_N1SS - 1)[..., ::8, ::8]

    def build(label_dropout: float = 0.5, *, inside_only: bool = False) -> Denoising:
        material = DrawnMaterial(frames, WarpReach(5, 0.1, 0, 0, 0), 64, seed=0, device="cpu")
        return Denoising(
            material,
            material,
            DenoisingPlan(
                STRUCTURES, VIEWS, label_dropout, is_half=False, inside_only=inside_only, seed=0
            ),
            precondition=PRECONDITIONS["edm"](0.5),
            encode=encode,
            picture=lambda *_: None,
        )

    return build


def test_maps_and_views_are_hidden_each_by_itself(task: Callable[..., Denoising]) -> None:
    network = Recorder()
    for step in range(4):
        task().loss(network, step)
    map_told_N = torch.cat(network.maps).sum((1, 2, 3)) > 0
    view_told_N = torch.cat(network.views) < VIEWS
    assert 90 < map_told_N.sum() < 166  # of 256, five deviations
    assert 90 < view_told_N.sum() < 166
    assert 30 < (map_told_N & view_told_N).sum() < 98


def test_without_dropout_all_is_told(task: Callable[..., Denoising]) -> None:
    network = Recorder()
    task(0.0).loss(network, 0)
    assert torch.equal(network.maps[0].sum(1), torch.ones(64, 96, 96))
    assert torch.equal(network.views[0], torch.zeros(64, dtype=torch.long))


def test_validation_tells_all_and_says_the_same_each_time(task: Callable[..., Denoising]) -> None:
    network = Recorder()
    built = task()
    assert built.validate(network) == built.validate(network)
    assert torch.cat(network.maps).sum(1).min() == 1


def test_what_a_network_says_of_its_variance_is_left_out(task: Callable[..., Denoising]) -> None:
    assert torch.equal(task().loss(Recorder(), 3), task().loss(Recorder(times=2), 3))


@pytest.mark.parametrize("inside_only", [True, False])
def test_cells_outside_the_sector_count_only_where_they_shall(
    task: Callable[..., Denoising], monkeypatch: pytest.MonkeyPatch, *, inside_only: bool
) -> None:
    batches = DrawnMaterial.batch

    def halved(self: DrawnMaterial, step: int) -> DrawnBatch:
        batch = batches(self, step)
        batch.sector_N1SS[..., 48:] = 0
        return batch

    class Shouting(nn.Module):
        """Its answers beyond the sector's half are wrong by a lot."""

        def __init__(self, wrong: float) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, x_NCHW: Tensor, *_: Tensor) -> Tensor:
            beyond_W = torch.arange(x_NCHW.shape[-1]) >= x_NCHW.shape[-1] // 2
            return x_NCHW + self.wrong * beyond_W

    monkeypatch.setattr(DrawnMaterial, "batch", halved)
    calm, loud = (task(inside_only=inside_only).loss(Shouting(wrong), 0) for wrong in (0.0, 100.0))
    assert torch.equal(calm, loud) == inside_only


def test_a_sheet_shows_maps_above_what_is_drawn_from_them(
    ventricles: Callable[..., AnnotatedFrames], tmp_path: Path
) -> None:
    material = DrawnMaterial(
        ventricles(*[(96, 96)] * 2), WarpReach(0, 0, 0, 0, 0), 2, seed=0, device="cpu"
    )
    drawn_NSS = np.full((2, 96, 96), 77, np.uint8)
    save_sheet(tmp_path / "pictures" / "step-000001.png", material.plain(range(2)), drawn_NSS)
    sheet_HW = np.asarray(Image.open(tmp_path / "pictures" / "step-000001.png"))
    assert sheet_HW.shape == (192, 192)
    assert (sheet_HW[96:] == 77).all()
    assert sheet_HW[:96].max() > 250
