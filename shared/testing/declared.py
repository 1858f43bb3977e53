"""All that a site's replies may hold, field by field, and the search for anything more.

It is written down a second time on purpose: what ``egress.py`` lets out is held against this page.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.testing.leaks import (
    CORRELATION_LIMIT,
    blob_arrays,
    find_words,
    picture_likeness,
    undeclared,
)
from shared.testing.recorder import SentBody, SentMessage, decode

_NUMBER = (int, float)
_TEXTS = [str]
_RECEIPT = {
    "release": str,
    "milliseconds": int,
    "cpu_milliseconds": int,
    "start_cpu_milliseconds": int,
    "refused": [{"dataset": str, "expert": str, "code": int}],
    "left": [_TEXTS],
    "serving": str,
}
_DESCRIPTION = {
    "dataset": str,
    "hash": str,
    "origin": str,
    "labels": {"*": _TEXTS},
    "patients": {"*": (int, type(None))},
    "policy_revision": int,
    "purposes": _TEXTS,
    "artefacts": _TEXTS,
}
_CARD = {
    **dict.fromkeys(("id", "site", "origin", "backbone", "weights_sha256", "parent"), str),
    **dict.fromkeys(("settings_hash", "created"), str),
    **dict.fromkeys(("trunk", "trunk_sha256"), str),
    **dict.fromkeys(("datasets", "dataset_hashes", "views", "layers"), _TEXTS),
    **dict.fromkeys(("image_size", "feature_width", "seed", "version"), int),
    "settings": {"*": (bool, int, float, str, type(None))},
    "metrics": {"*": _NUMBER},
}
_EXPORT_CARD = {
    **dict.fromkeys(("id", "site", "dataset", "dataset_hash", "origin", "expert"), str),
    **dict.fromkeys(("expert_sha256", "created", "level"), str),
    **dict.fromkeys(("num_rows", "feature_width", "num_evidence"), int),
    **dict.fromkeys(("policy_version", "version", "minimum_patients"), int),
    **dict.fromkeys(("labels", "views", "annotated", "never_images"), _TEXTS),
    "label_views": [_TEXTS],
    "folds": {"*": str},
}
_STATISTICS_CARD = {
    **dict.fromkeys(("id", "site", "dataset", "dataset_hash", "origin"), str),
    **dict.fromkeys(("created", "level"), str),
    **dict.fromkeys(("policy_version", "version"), int),
    **dict.fromkeys(("labels", "annotated", "never_images", "expert_sha256"), _TEXTS),
    "label_views": [_TEXTS],
    "folds": {"*": str},
    "shrinkage": _NUMBER,
    "blocks": [{"expert": str, "views": _TEXTS, "feature_width": int, "num_evidence": int}],
}
_FIGURES = {
    **dict.fromkeys(("dataset", "fusion", "split", "level"), str),
    **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), _NUMBER),
    **{key: {"*": _NUMBER} for key in ("recall", "f1", "id_scores")},
    "num": int,
    "labels": _TEXTS,
    "confusion": [[int]],
}
_OFFER = {
    **dict.fromkeys(("dataset", "hash", "origin"), str),
    **dict.fromkeys(("structures", "views"), _TEXTS),
}
BODIES: dict[str, Any] = {
    "query.presence": {"release": str, "received": {"*": str}},
    "query.describe": {
        "datasets": [_DESCRIPTION],
        "withdrawn": _TEXTS,
        "inventory": {"experts": [{"id": str, "sha256": str}], "received": _TEXTS},
        "receipt": _RECEIPT,
    },
    "query.experts": {"cards": [_CARD], "receipt": _RECEIPT},
    "query.features": {"receipt": _RECEIPT},
    "evaluate.fusion": {"metrics": [_FIGURES], "receipt": _RECEIPT},
    "query.deliver": {"receipt": _RECEIPT},
    "query.annotations": {"offers": [_OFFER], "receipt": _RECEIPT},
    "train.segmenter": {
        "datasets": _TEXTS,
        "num_frames": int,
        **{key: {"*": _NUMBER} for key in ("came", "learnt")},
        "receipt": _RECEIPT,
    },
    "evaluate.segmenter": {"datasets": _TEXTS, "came": {"*": _NUMBER}, "receipt": _RECEIPT},
}
"""Message type -> body of the reply."""
EXPORT_ARRAYS = {
    "frame_N": "int64",
    "patient_N": "int32",
    "clip_N": "int32",
    "label_N": "int16",
    "split_N": "int8",
    "pass_N": "int8",
    "features_ND": "float16",
    "logits_NC": "float32",
    "discrepancy_NL": "float32",
}
"""Arrays of a feature export and their types."""
STATISTICS_ARRAYS = {
    "num_frames_SK": "int32",
    "num_patients_SK": "int32",
    "mean_SKM": "float64",
    "covariance_SMM": "float64",
}
"""Arrays of a statistics export and their types."""
_EXPORTED = EXPORT_ARRAYS | STATISTICS_ARRAYS
_WITH_BLOBS = {"query.experts", "query.features", "train.segmenter"}


def examine(
    bodies: Sequence[SentBody],
    frames_NHW: Sequence[NDArray[np.uint8]],
    words: Iterable[str],
) -> list[str]:
    """Everything in a site's bodies that should not be there.

    Args:
        bodies: what the recorder kept.
        frames_NHW: some of the site's own frames, as they are stored.
        words: names, patient keys and paths that must not leave.

    Returns:
        A line for every finding; empty if nothing more than declared has left.
    """
    names = list(words)
    found = [
        f"{sent.path}: names {word}"
        for sent in bodies
        for word in sorted(find_words(sent.body, names))
    ]
    for message in decode(bodies):
        found += [
            f"{message.message_type}: {line}" for line in examine_message(message, frames_NHW)
        ]
    return found


def examine_message(message: SentMessage, frames_NHW: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Everything in one message that should not be there."""
    if message.error_code is not None:
        return [f"error text {message.error_text!r}"] if message.error_text else []
    layout = {name: set(record) for name, record in message.configs.items()}
    if layout != {"header": {"json"}} or set(message.arrays) != {"blobs"} or message.metrics:
        return ["other records than header and blobs"]
    return [
        *_in_header(message.message_type, json.loads(message.configs["header"]["json"])),
        *_in_blobs(message.message_type, message.arrays["blobs"], frames_NHW),
    ]


def _in_header(message_type: str, document: Mapping[str, Any]) -> list[str]:
    if "error" in document:
        declared: dict[str, Any] = {"format": int, "site": str, "error": int}
    else:
        body = BODIES.get(message_type, {})
        declared = {"format": int, "site": str, "body": body, "blobs": {"*": str}}
    return [f"undeclared field {path}" for path in undeclared(document, declared)]


def _in_blobs(
    message_type: str, blobs: Mapping[str, bytes], frames_NHW: Sequence[NDArray[np.uint8]]
) -> Iterator[str]:
    if blobs and message_type not in _WITH_BLOBS:
        yield "blobs where none belong"
    for name, array in blob_arrays(blobs):
        yield from _undeclared_array(message_type, name, array)
        likeness = picture_likeness(array, frames_NHW)
        if likeness > CORRELATION_LIMIT:
            yield f"array {name} is {likeness:.2f} like a frame"


def _undeclared_array(message_type: str, name: str, array: NDArray[Any]) -> Iterator[str]:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "metadata":
        declared = {"card": str} if message_type == "query.features" else {}
        metadata = json.loads(array.tobytes())
        card = json.loads(metadata.get("card", "{}"))
        layout = _STATISTICS_CARD if card.get("level") == "statistics" else _EXPORT_CARD
        for path in [*undeclared(metadata, declared), *undeclared(card, layout)]:
            yield f"undeclared {path} in {name}"
    elif message_type == "query.features" and _EXPORTED.get(leaf) != str(array.dtype):
        yield f"undeclared array {name} of {array.dtype}"
    elif array.dtype == np.uint8:
        yield f"array {name} holds bytes"
