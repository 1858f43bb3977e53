import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.embedding import ReIdentify
from shared.synthesis.release import (
    ReleaseGate,
    embedded,
    fit_threshold,
    nearest,
    subset_coverage,
)

WIDTH = 16  # of the toy law
NUM_TRAIN, NUM_HELD_OUT, NUM_FRESH = 2000, 300, 4000


def unit_vectors(num: int, generator: torch.Generator) -> Tensor:
    drawn_ND = torch.randn(num, WIDTH, generator=generator, dtype=torch.float64)
    return nn.functional.normalize(drawn_ND, dim=1)


def flagged(seed: int) -> tuple[float, float, float]:
    """Share of fresh draws flagged by our null and by the released one, and of copies by ours."""
    generator = torch.Generator().manual_seed(seed)
    train_GD = unit_vectors(NUM_TRAIN, generator)
    held_out_HD = unit_vectors(NUM_HELD_OUT, generator)
    fresh_N, _ = nearest(unit_vectors(NUM_FRESH, generator), train_GD)
    noise_ND = 0.02 * unit_vectors(NUM_TRAIN, generator)
    copy_N, _ = nearest(nn.functional.normalize(train_GD + noise_ND, dim=1), train_GD)
    ours = fit_threshold(held_out_HD, train_GD)
    released = fit_threshold(train_GD, held_out_HD)
    return tuple(  # type: ignore[return-value]
        float((similarity_N > threshold).double().mean())
        for similarity_N, threshold in ((fresh_N, ours), (fresh_N, released), (copy_N, ours))
    )


def test_strangers_pass_copies_do_not_and_the_released_null_flags_too_many() -> None:
    """V24, over six draws: with 300 held-out frames one threshold is off by 1.3 % (one s.e.)."""
    fresh, released, copies = np.mean([flagged(seed) for seed in range(6)], axis=0)
    assert fresh == pytest.approx(0.05, abs=0.02)
    # its threshold bounds the nearest of 300; an image is judged by the nearest of 2000
    assert released == pytest.approx(1 - 0.95 ** (NUM_TRAIN / NUM_HELD_OUT), abs=0.04)
    assert copies == 1.0


def test_coverage_is_the_share_of_frames_that_are_nearest() -> None:
    gallery_GD = torch.eye(8, dtype=torch.float64)
    assert subset_coverage(gallery_GD[[1, 1, 4]], gallery_GD) == 2 / 8
    assert subset_coverage(gallery_GD, gallery_GD) == 1.0


def test_a_training_frame_is_nearest_to_itself_and_held_back() -> None:
    torch.manual_seed(0)
    network = ReIdentify(width=8).eval()
    frames_NSS = np.random.default_rng(0).integers(0, 255, (70, 32, 32), np.uint8)
    gallery_GD = embedded(network, frames_NSS)
    gate = ReleaseGate(network, gallery_GD, 0.999)
    similarity_N = gate.similarities(frames_NSS)
    assert np.allclose(similarity_N, 1.0, atol=1e-5)
    assert not gate.released(similarity_N).any()
    _, place_N = nearest(gallery_GD, gallery_GD)
    assert place_N.tolist() == list(range(70))


def test_threshold_needs_strangers() -> None:
    with pytest.raises(EchoFedError) as caught:
        fit_threshold(torch.zeros(0, 4), torch.eye(4))
    assert caught.value.code is Code.FRAMES_MISSING


@pytest.mark.parametrize(
    ("gallery_GD", "threshold"),
    [(torch.zeros(0, 4), 0.5), (2 * torch.eye(4), 0.5), (torch.eye(4), float("nan"))],
)
def test_a_gate_that_cannot_judge_is_refused(gallery_GD: Tensor, threshold: float) -> None:
    with pytest.raises(EchoFedError) as caught:
        ReleaseGate(nn.Identity(), gallery_GD, threshold)
    assert caught.value.code is Code.FEATURES_INVALID
