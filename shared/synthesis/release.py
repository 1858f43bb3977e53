"""Which drawn images may go out: those that are no nearer to a training frame than a stranger's.

Protocol of EchoNet-Synthetic (Reynaud et al. 2024, arXiv 2406.00808, ``privacy/apply.py``) with one
correction: there the threshold comes from each training frame's nearest held-out frame, but an
image is judged by its nearest training frame. These are maxima over unlike numbers of comparisons,
and where more frames are learnt from than held out, too many images are flagged. Here held-out
frames are looked up among the training frames, as images are.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.shapes import expect

FALSE_FLAGS = 0.05
"""Share of strangers' frames that the gate would hold back."""
_PIECE = 64  # images embedded at once
_WHITE = 255.0


class ReleaseGate:
    """Holds back what is too similar to a frame that the synthesizer has learnt from."""

    def __init__(self, embedding: nn.Module, gallery_GD: Tensor, threshold: float) -> None:
        """Keep the embedding, the training frames' unit vectors, and the highest similarity.

        Raises:
            EchoFedError: FEATURES_INVALID for a gallery that is empty or not of unit vectors, or a
                threshold that is no number.
        """
        expect(gallery_GD, "G D")
        is_unit = ((gallery_GD.norm(dim=1) - 1).abs() < 1e-3).all()
        if not len(gallery_GD) or not is_unit or math.isnan(threshold):
            raise EchoFedError(
                Code.FEATURES_INVALID,
                f"a gallery of {len(gallery_GD)} training frames with threshold {threshold} "
                "cannot judge an image",
                "fetch the synthesizer again, or train it again",
            )
        self.embedding = embedding.eval()
        self.gallery_GD = gallery_GD
        self.threshold = threshold

    def similarities(self, images_NSS: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Cosine between each image and the training frame that is nearest, (N,)."""
        similarity_N, _ = nearest(embedded(self.embedding, images_NSS), self.gallery_GD)
        out: NDArray[np.float32] = similarity_N.numpy().astype(np.float32)
        return out

    def released(self, similarity_N: NDArray[np.floating]) -> NDArray[np.bool_]:
        """True for similarities with which an image may go out."""
        out: NDArray[np.bool_] = similarity_N <= self.threshold
        return out


def embedded(embedding: nn.Module, images_NSS: NDArray[np.uint8]) -> Tensor:
    """Unit vectors (N, D) of grey squares, a few at a time."""
    expect(images_NSS, "N S S")
    pieces: Iterable[int] = range(0, len(images_NSS), _PIECE)
    with torch.inference_mode():
        return torch.cat(
            [
                embedding(torch.from_numpy(images_NSS[begin : begin + _PIECE])[:, None] / _WHITE)
                for begin in pieces
            ]
        )


def nearest(vectors_ND: Tensor, gallery_GD: Tensor) -> tuple[Tensor, Tensor]:
    """Largest cosine of unit vectors with those of a gallery (N,), and whose it is (N,)."""
    expect(gallery_GD, "G D", D=vectors_ND.shape[1])
    similarity_N, place_N = (vectors_ND @ gallery_GD.T).max(dim=1)
    return similarity_N, place_N


def fit_threshold(
    held_out_HD: Tensor, gallery_GD: Tensor, false_flags: float = FALSE_FLAGS
) -> float:
    """Similarity to the nearest training frame that so many strangers' frames exceed.

    Args:
        held_out_HD: unit vectors of real frames of patients that were not learnt from.
        gallery_GD: unit vectors of the training frames.
        false_flags: share of the held-out frames beyond the threshold.

    Raises:
        EchoFedError: FRAMES_MISSING without held-out or training frames.
    """
    if not len(held_out_HD) or not len(gallery_GD):
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "there are no held-out frames, or no training frames, to tell what a stranger is like",
            "give the dataset a validation split",
        )
    similarity_H, _ = nearest(held_out_HD, gallery_GD)
    return float(np.quantile(similarity_H.double().numpy(), 1.0 - false_flags))


def subset_coverage(drawn_ND: Tensor, gallery_GD: Tensor) -> float:
    """Share of the training frames that are the nearest one of some drawn image.

    Reynaud et al. 2024 (arXiv 2411.04956) find that a synthesizer knows but a part of what it has
    seen. With fewer images than frames the share is their ratio at most.
    """
    _, place_N = nearest(drawn_ND, gallery_GD)
    return len(torch.unique(place_N)) / len(gallery_GD)
