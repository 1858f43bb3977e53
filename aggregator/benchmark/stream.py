"""A stored stream: exports of datasets in the order in which they came, and who is at home where.

A stream's folder holds ``bank/`` (a feature bank), ``experts/<id>/card.json`` and ``stream.json``,
which is written last: a folder with it is complete.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aggregator.benchmark.stage import Stage
from aggregator.feature_bank import FeatureBank
from shared.echo.origin import ImagedOrigin
from shared.echo.schema import from_document
from shared.errors import Code, EchoFedError
from shared.files import read_json

STREAM_FILE = "stream.json"
STREAM_VERSION = 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dataset of a stream.

    Args:
        name: ``site/dataset``.
        content: hash of its content.
        expert: id of the expert that was trained on it.
        level: at which its site exports; rows are stored in either case, to score by.
        is_foreign: never trained on; its rows are looked at only.
    """

    name: str
    content: str
    expert: str
    level: Literal["rows", "statistics"] = "rows"
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of making the stream cost; CPU seconds with the start of processes."""

    step: str
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """``stream.json``.

    Args:
        arrivals: in order; foreign ones last.
        joint: id of the expert that was trained on the pooled images of all that are not foreign;
            its exports lie in the bank as well.
        recipe: hash of the plan that the stream was made by.
    """

    name: str
    seed: int
    origin: ImagedOrigin
    arrivals: tuple[Arrival, ...]
    joint: str
    steps: tuple[Step, ...]
    recipe: str
    version: int = STREAM_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream that is ready to be learned from; what is found of it is stored in its folder."""

    record: StreamRecord
    bank: FeatureBank
    folder: Path

    def arrivals(self) -> tuple[Arrival, ...]:
        """Those that are learned from, in order."""
        return tuple(one for one in self.record.arrivals if not one.is_foreign)

    def stage(self, number: int) -> Stage:
        """What is known once the first ``number`` datasets and their experts are there."""
        return self.stage_of(self.arrivals()[:number])

    def stage_of(self, known: Sequence[Arrival]) -> Stage:
        """What is known once these datasets and their experts are there."""
        joined = self.bank.join(
            [one.expert for one in known], {one.name: one.content for one in known}
        )
        reticent = frozenset(one.name for one in known if one.level == "statistics")
        homes = {one.name: one.expert for one in known}
        return Stage(joined, homes, self.record.seed, reticent)


def open_stream(folder: Path) -> Stream:
    """Open a stored stream.

    Raises:
        EchoFedError: DATA_UNREADABLE where it is not complete, CARD_NEWER.
    """
    path = folder / STREAM_FILE
    if not path.is_file():
        raise EchoFedError(
            Code.DATA_UNREADABLE, "the stream is not complete", "run echofed-aggregator streams"
        )
    record = from_document(StreamRecord, read_json(path), version=STREAM_VERSION)
    return Stream(record, FeatureBank(folder / "bank"), folder)
