"""Annotated ventricles in squares, as training has them in memory."""

from collections.abc import Callable

import numpy as np
import pytest

from shared.testing.ventricle import STRUCTURES, draw_ventricle
from site_client.annotated import AnnotatedFrames

SIDE = 96


@pytest.fixture
def ventricles() -> Callable[..., AnnotatedFrames]:
    """Pictures of one size each, in the upper left corner of their squares."""

    def build(*sizes_HW: tuple[int, int], seed: int = 0, mm: float = 1.5) -> AnnotatedFrames:
        generator, num = np.random.default_rng(seed), len(sizes_HW)
        pixels_NSS, labels_NSS, sector_NSS = (np.zeros((num, SIDE, SIDE), np.uint8) for _ in "abc")
        landmarks = np.zeros((num, 3, 2))
        for place, (rows, columns) in enumerate(sizes_HW):
            pixels_HW, annotation = draw_ventricle(generator, (rows, columns))
            assert annotation.landmarks_xy_px_F32 is not None
            pixels_NSS[place, :rows, :columns] = pixels_HW.clip(1)
            labels_NSS[place, :rows, :columns] = annotation.labels_FHW[0]
            sector_NSS[place, 4 : rows - 4, 6 : columns - 6] = 1
            landmarks[place] = annotation.landmarks_xy_px_F32[0]
        places = np.arange(num)
        return AnnotatedFrames(
            pixels_NSS, labels_NSS, sector_NSS.astype(bool), np.ones(num, bool),
            np.array(sizes_HW, np.int32), np.full((num, 2), mm), np.ones((num, 4), bool), landmarks,
            np.zeros(num, np.int8), places.astype(np.int32), np.zeros(num, np.int32),
            places.astype(np.int32), np.zeros(num, np.int8), np.zeros(num, np.int16),
            datasets=("a",), views=("A4C",), structures=STRUCTURES,
        )  # fmt: skip

    return build
