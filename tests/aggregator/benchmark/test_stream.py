"""A stored stream: stages grow one dataset at a time, and half a stream is refused."""

from pathlib import Path

import numpy as np
import pytest

from aggregator.benchmark import METHODS
from aggregator.benchmark.stream import Stream, open_stream
from shared.errors import Code, EchoFedError


def test_a_stage_knows_the_datasets_so_far_and_their_experts(world_stream: Stream) -> None:
    stage = world_stream.stage(2)
    arrived = world_stream.arrivals()[:2]
    assert [rows.name for rows in stage.joined.datasets] == [one.name for one in arrived]
    assert [block.expert for block in stage.joined.blocks] == [one.expert for one in arrived]


def test_a_folder_without_its_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError) as caught:
        open_stream(tmp_path)
    assert caught.value.code == Code.DATA_UNREADABLE


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_tells_probabilities_of_every_row(world_stream: Stream, name: str) -> None:
    stage = world_stream.stage(2)
    teller = METHODS[name](stage)
    for rows in stage.joined.datasets:
        told_NV = teller.tell(rows)
        assert told_NV.shape == (len(rows.label_N), len(teller.views))
        np.testing.assert_allclose(np.exp(told_NV).sum(axis=1), 1.0, atol=1e-5)
