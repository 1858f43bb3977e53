"""A body with something planted in it does not pass; a body as declared does."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.echo.features import FeatureExport
from shared.errors import Code
from shared.files import arrays_from_bytes, arrays_to_bytes
from shared.payload import Payload, write_header, write_refusal
from shared.testing.declared import examine_message
from shared.testing.recorder import SentMessage

RECEIPT = {"release": "0.1.0", "milliseconds": 1, "cpu_milliseconds": 1, "refused": [], "left": []}


@pytest.fixture
def frames(seed: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (2, 14, 14)).astype(np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2))


def sent(message_type: str, payload: Payload) -> SentMessage:
    header = {"header": {"json": write_header(payload, site="north")}}
    return SentMessage(message_type, configs=header, arrays={"blobs": dict(payload.blobs)})


def features(export: FeatureExport, **more: NDArray[Any]) -> SentMessage:
    arrays, metadata = arrays_from_bytes(export.to_bytes())
    blob = arrays_to_bytes({**arrays, **more}, metadata)
    return sent("query.features", Payload({"receipt": RECEIPT}, {"demo/expert": blob}))


def test_an_export_as_declared_passes(
    feature_export: FeatureExport, frames: list[NDArray[np.uint8]]
) -> None:
    assert examine_message(features(feature_export), frames) == []


def test_a_planted_pixel_array_is_found(
    feature_export: FeatureExport, frames: list[NDArray[np.uint8]]
) -> None:
    pixels = (frames[0].astype(np.float16) - 128) / 64
    found = examine_message(features(feature_export, features_ND=pixels), frames)
    assert any("like a frame" in line for line in found)


def test_an_array_beside_the_declared_ones_is_found(
    feature_export: FeatureExport, frames: list[NDArray[np.uint8]]
) -> None:
    found = examine_message(features(feature_export, thumbnails=np.ones(4)), frames)
    assert any("undeclared array" in line for line in found)


def test_a_field_beside_the_declared_ones_is_found(frames: list[NDArray[np.uint8]]) -> None:
    body = {"receipt": {**RECEIPT, "path": "/data/x.dcm"}, "patients": ["p1"]}
    found = examine_message(sent("query.features", Payload(body)), frames)
    assert sorted(found) == [
        "undeclared field body.patients",
        "undeclared field body.receipt.path",
    ]


def test_a_card_with_a_field_more_is_found(
    feature_export: FeatureExport, frames: list[NDArray[np.uint8]]
) -> None:
    arrays, metadata = arrays_from_bytes(feature_export.to_bytes())
    card = {**json.loads(metadata["card"]), "patient_names": ["x"]}
    blob = arrays_to_bytes(arrays, {"card": json.dumps(card), "comment": "x"})
    message = sent("query.features", Payload({"receipt": RECEIPT}, {"demo/expert": blob}))
    assert sorted(line.split(" in ")[0] for line in examine_message(message, frames)) == [
        "undeclared comment",
        "undeclared patient_names",
    ]


def test_the_text_of_an_error_is_found(frames: list[NDArray[np.uint8]]) -> None:
    assert examine_message(SentMessage("query.features", 2, "no file Muster.dcm"), frames)
    assert examine_message(SentMessage("query.features", 2, ""), frames) == []


def test_a_refusal_passes_and_nothing_beside_its_number(frames: list[NDArray[np.uint8]]) -> None:
    header = write_refusal(Code.INTERNAL, site="north")
    longer = json.dumps({**json.loads(header), "text": "no file Muster.dcm"})
    for text, findings in ((header, []), (longer, ["undeclared field text"])):
        message = SentMessage(
            "query.describe", configs={"header": {"json": text}}, arrays={"blobs": {}}
        )
        assert examine_message(message, frames) == findings


def test_a_record_beside_the_declared_ones_is_found(frames: list[NDArray[np.uint8]]) -> None:
    plain = sent("query.deliver", Payload({"receipt": RECEIPT}))
    for message in (
        SentMessage("query.deliver", configs={**plain.configs, "more": {}}, arrays=plain.arrays),
        SentMessage(
            "query.deliver", configs=plain.configs, arrays=plain.arrays, metrics={"m": {"a": 1}}
        ),
    ):
        assert examine_message(message, frames) == ["other records than header and blobs"]


def test_blobs_where_none_belong_are_found(frames: list[NDArray[np.uint8]]) -> None:
    message = sent("query.deliver", Payload({"receipt": RECEIPT}, {"raw": b"abc"}))
    assert "blobs where none belong" in examine_message(message, frames)
