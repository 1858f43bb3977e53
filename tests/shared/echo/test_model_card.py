"""A card says by its kind what it is of; what is neither is refused."""

from pathlib import Path

import pytest

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.model_card import ModelCard, load_model_files, read_model_card, save_model
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer

MADE = pytest.mark.parametrize("made", [untrained_segmenter(1), untrained_synthesizer(1)])


@MADE
def test_a_model_of_either_kind_comes_back_as_it_was(
    tmp_path: Path, made: tuple[ModelCard, bytes]
) -> None:
    save_model(tmp_path, *made)
    assert load_model_files(tmp_path) == made
    assert read_model_card(to_document(made[0])) == made[0]


@MADE
def test_other_weights_or_another_kind_are_refused(
    tmp_path: Path, made: tuple[ModelCard, bytes]
) -> None:
    save_model(tmp_path, *made)
    (tmp_path / WEIGHTS_FILE).write_bytes(made[1][:-1])
    with pytest.raises(EchoFedError) as caught:
        load_model_files(tmp_path)
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
    write_json(tmp_path / CARD_FILE, read_json(tmp_path / CARD_FILE) | {"kind": "expert"})
    with pytest.raises(EchoFedError) as caught:
        load_model_files(tmp_path)
    assert caught.value.code is Code.MODEL_UNKNOWN
