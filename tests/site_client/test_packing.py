"""Packed frames come back bit by bit, together and alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Code, EchoFedError
from site_client.packing import pack_frames, unpack_frame, unpack_frames

SIDES = st.integers(1, 40)


@given(st.integers(1, 5), SIDES, SIDES, st.integers(0, 255), st.integers(0, 9))
def test_packing_loses_nothing(frames: int, rows: int, columns: int, top: int, seed: int) -> None:
    shape = (frames, rows, columns)
    pixels = np.random.default_rng(seed).integers(0, top + 1, shape).astype(np.uint8)
    packed, ends = pack_frames(pixels)
    assert np.array_equal(unpack_frames(packed, ends, (rows, columns)), pixels)
    alone = unpack_frame(packed[: ends[0]], (rows, columns))
    assert np.array_equal(alone, pixels[0])


def test_black_around_the_sector_costs_next_to_nothing() -> None:
    pixels = np.zeros((2, 600, 800), np.uint8)
    packed, _ = pack_frames(pixels)
    assert len(packed) < pixels.size / 1000


def test_a_frame_of_another_size_is_refused() -> None:
    packed, _ = pack_frames(np.zeros((1, 6, 8), np.uint8))
    with pytest.raises(EchoFedError) as caught:
        unpack_frame(packed, (8, 8))
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
