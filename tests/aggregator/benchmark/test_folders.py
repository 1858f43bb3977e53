"""Stored streams by name: seeds in order, and nothing is averaged that is not alike."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aggregator.benchmark.folders import find_streams
from aggregator.benchmark.stream import STREAM_FILE
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json


@pytest.fixture
def folder(stored_streams: Path, tmp_path: Path) -> Path:
    """A copy of the records alone; no test here reads an export."""
    for path in stored_streams.glob(f"*/*/{STREAM_FILE}"):
        target = tmp_path / path.relative_to(stored_streams)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    return tmp_path


def change(path: Path, values: Mapping[str, Any]) -> None:
    write_json(path / STREAM_FILE, {**read_json(path / STREAM_FILE), **values})


def refusal(folder: Path) -> Code:
    with pytest.raises(EchoFedError) as caught:
        find_streams(folder)
    return caught.value.code


def test_seeds_of_a_name_stand_together_in_the_order_of_their_numbers(folder: Path) -> None:
    found = find_streams(folder)
    assert {name: [one.record.seed for one in seeds] for name, seeds in found.items()} == {
        "gaussian": [2, 10],
        "organs": [10],
    }


def test_a_stream_in_the_making_is_left_out(folder: Path) -> None:
    (folder / "gaussian" / "seed-3").mkdir()
    assert len(find_streams(folder)["gaussian"]) == 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == refusal(tmp_path / "nowhere") == Code.FRAMES_MISSING


def test_a_stream_of_a_newer_release_is_refused(folder: Path) -> None:
    change(folder / "gaussian" / "seed-2", {"version": 99})
    assert refusal(folder) == Code.CARD_NEWER


def test_real_and_phantom_seeds_of_one_name_are_refused(folder: Path) -> None:
    change(folder / "organs" / "seed-10", {"name": "gaussian", "seed": 3})
    assert refusal(folder) == Code.CONFIG_INVALID


def test_seeds_with_other_datasets_or_the_same_number_are_refused(folder: Path) -> None:
    change(folder / "gaussian" / "seed-10", {"seed": 2})
    assert refusal(folder) == Code.CONFIG_INVALID
    arrivals = read_json(folder / "gaussian" / "seed-2" / STREAM_FILE)["arrivals"]
    change(folder / "gaussian" / "seed-10", {"seed": 10, "arrivals": arrivals[:2]})
    assert refusal(folder) == Code.CONFIG_INVALID
