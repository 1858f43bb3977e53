"""What is foreign: each dataset in turn, or the foreign ones of a stream that has some."""

from pathlib import Path

import numpy as np
import pytest

from aggregator.benchmark.folders import find_streams
from aggregator.benchmark.outside import Outside, look_outside
from aggregator.benchmark.stream import Stream
from aggregator.fusion.evaluate import is_scored
from aggregator.fusion.scorecard import ID_SCALAR, NEAREST
from shared.evidence import EVIDENCE


@pytest.fixture(scope="module")
def rotated(world_stream: Stream) -> Outside:
    found = look_outside(world_stream)
    assert found is not None
    return found


def test_every_dataset_is_foreign_once_and_home_to_the_others(
    world_stream: Stream, rotated: Outside
) -> None:
    num = sum(is_scored(rows, "test").sum() for rows in world_stream.stage(3).joined.datasets)
    assert len(rotated.home_N) == 2 * num
    assert sum(len(values_N) for values_N in rotated.foreign.values()) == num


def test_rows_are_split_by_whether_the_others_own_their_view(
    world_stream: Stream, rotated: Outside
) -> None:
    """A4C is owned by all three; the other six views by one dataset each."""
    joined = world_stream.stage(3).joined
    shared = sum(
        (is_scored(rows, "test") & (np.array(rows.labels)[rows.label_N] == "A4C")).sum()
        for rows in joined.datasets
    )
    assert len(rotated.foreign["new scanner"]) == shared


def test_the_id_scalar_and_every_detector_are_held_against_the_same_rows(rotated: Outside) -> None:
    assert set(rotated.auroc) == {ID_SCALAR, *(NEAREST + name for name in EVIDENCE.names())}
    assert all(0 <= area <= 1 for by_kind in rotated.auroc.values() for area in by_kind.values())
    assert rotated.auroc[ID_SCALAR]["unseen view"] > 0.6


def test_where_a_stream_has_foreign_datasets_these_are_the_new_scanners(
    stored_streams: Path,
) -> None:
    stream = find_streams(stored_streams)["organs"][0]
    found = look_outside(stream)
    assert found is not None
    foreign = stream.record.arrivals[-1]
    known = [one.expert for one in stream.arrivals()]
    (rows,) = stream.bank.join(known, {foreign.name: foreign.content}).datasets
    a4c_N = np.array(rows.labels)[rows.label_N] == "A4C"
    assert len(found.foreign["new scanner"]) == (is_scored(rows, "test") & a4c_N).sum()
