"""Planted leaks are found: a picture in disguise, a name, a field; learned numbers pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.files import arrays_to_bytes
from shared.testing.leaks import (
    CORRELATION_LIMIT,
    blob_arrays,
    find_words,
    picture_likeness,
    undeclared,
)


def frames(seed: int) -> list[NDArray[np.uint8]]:
    """Smooth random pictures with a fan-like edge, as different from noise as real frames are."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(3):
        picture = generator.normal(size=(112, 112))
        for axis in (0, 1):
            for _ in range(6):
                picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) / 4
        picture = (picture - picture.min()) / np.ptp(picture) * 255
        picture[: 112 // 6] = 0
        found.append(picture.astype(np.uint8))
    return found


def halved(frame: NDArray[np.uint8]) -> NDArray[Any]:
    return frame.reshape(56, 2, 56, 2).mean(axis=(1, 3)).astype(np.float32)


DISGUISES: dict[str, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {
    "as it is": lambda frame: frame,
    "standardised half floats": lambda frame: ((frame - frame.mean()) / 50).astype(np.float16),
    "inverted": lambda frame: -frame.astype(np.float32),
    "flat in a longer row": lambda frame: np.concatenate([np.zeros(999), frame.ravel()]),
    "half size": halved,
    "half size among rows": lambda frame: np.stack(
        [np.random.default_rng(0).normal(size=3136), halved(frame).ravel()]
    ),
    "with noise": lambda frame: frame + np.random.default_rng(0).normal(size=frame.shape) * 30,
    "as bytes of another type": lambda frame: np.frombuffer(frame.tobytes(), dtype=np.int32),
}


@pytest.mark.parametrize("disguise", sorted(DISGUISES))
def test_a_planted_picture_is_found(disguise: str, seed: int) -> None:
    local = frames(seed)
    assert picture_likeness(DISGUISES[disguise](local[1]), local) > CORRELATION_LIMIT


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(1).normal(size=(64, 1280)).astype(np.float16),
        np.random.default_rng(2).normal(size=(40, 3136)).astype(np.float32),
        np.arange(20000, dtype=np.int64),
        np.zeros((112, 112), dtype=np.float32),
        np.random.default_rng(3).normal(size=(32, 1, 3, 3)).astype(np.float32),
        np.array([], dtype=np.float32),
    ],
    ids=["features", "wide features", "indices", "zeros", "kernels", "nothing"],
)
def test_learned_numbers_pass(array: NDArray[Any], seed: int) -> None:
    assert picture_likeness(array, frames(seed)) < CORRELATION_LIMIT


def test_arrays_are_found_in_any_blob() -> None:
    blobs = {"export": arrays_to_bytes({"x": np.ones(3)}, {"k": "v"}), "raw": b"abc"}
    found = dict(blob_arrays(blobs))
    assert found.keys() == {"export.metadata", "export.x", "raw"}
    assert np.array_equal(found["export.x"], np.ones(3))


@pytest.mark.parametrize("coding", ["utf-8", "utf-16-le"])
def test_a_name_is_found_whatever_its_case_and_encoding(coding: str) -> None:
    body = b"\x0a\x10" + "<class 'OSError'>: /DATA/MUSTER_anna/1.dcm".encode(coding)
    assert find_words(body, ["muster_anna", "schmidt"]) == {"muster_anna"}


def test_undeclared_fields_are_named() -> None:
    declared = {"site": str, "counts": {"*": (int, type(None))}, "rows": [{"n": int}]}
    assert undeclared({"site": "a", "counts": {"A4C": 3, "A2C": None}}, declared) == []
    document = {
        "site": "a",
        "counts": {"A4C": "x"},
        "rows": [{"n": 1, "patient": "P"}],
        "path": "/",
    }
    assert undeclared(document, declared) == ["counts.A4C", "rows[].patient", "path"]
