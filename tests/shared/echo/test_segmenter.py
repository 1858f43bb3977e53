"""A segmenter's files come back as they were, and only together."""

from dataclasses import replace
from pathlib import Path

import pytest

from shared.echo.expert import WEIGHTS_FILE
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex

WEIGHTS = b"weights"
CARD = SegmenterCard(
    id="north-unet-1", site="north", datasets=("a",), dataset_hashes=("h",), origin="phantom",
    answers="masks", network="unet", options={"width": 16, "depth": 4}, image_size=128,
    structures=("background", "lv"), num_landmarks=0, views=("A4C",),
    weights_sha256=sha256_hex(WEIGHTS), parent="", seed=1, settings_hash="s", settings={},
    metrics={"val_dice": 0.5}, created="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def test_card_and_weights_come_back(tmp_path: Path) -> None:
    save_segmenter(tmp_path, CARD, WEIGHTS)
    assert load_segmenter_files(tmp_path) == (CARD, WEIGHTS)


def test_other_weights_than_the_cards_are_refused(tmp_path: Path) -> None:
    save_segmenter(tmp_path, CARD, WEIGHTS)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"others")
    with pytest.raises(EchoFedError) as refused:
        load_segmenter_files(tmp_path)
    assert refused.value.code is Code.CHECKPOINT_CORRUPT


def test_a_card_of_a_later_release_is_refused(tmp_path: Path) -> None:
    save_segmenter(tmp_path, replace(CARD, version=2), WEIGHTS)
    with pytest.raises(EchoFedError) as refused:
        load_segmenter_files(tmp_path)
    assert refused.value.code is Code.CARD_NEWER
